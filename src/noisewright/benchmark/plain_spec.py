"""A spec as JSON, and back: what a ``benchmark.json`` holds, which is data, and may have been written by anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noisewright.benchmark.axes import FIELDS
from noisewright.benchmark.cells import MOST_CELLS, count_cells
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.outside.messages import unknown
from noisewright.schemas.specs import check_spec


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """A spec as ``benchmark.json`` has it."""
    return {
        "name": spec.name,
        "title": spec.title,
        "base": dict(spec.base),
        "axes": [
            {"name": axis.name, "values": [{"label": one.label, "changes": dict(one.changes)} for one in axis.values]}
            for axis in spec.axes
        ],
        "prompts": [{"text": one.text, "number": one.number, "category": one.category} for one in spec.prompts],
        "prompt_set": spec.prompt_set,
        "seeds": spec.seeds,
        "seed": spec.seed,
        "seed_step": spec.seed_step,
        "reference": dict(spec.reference),
        "across": spec.across,
        "notes": list(spec.notes),
    }


def spec_from_json(value: Mapping[str, Any], where: str = "a spec") -> Spec:
    """The spec that :func:`spec_to_json` gave, to be shown and compared with one that was typed; it is not run itself.

    Args:
        value: what was read.
        where: what it was read from, for messages.

    Raises:
        ValueError: in one line, on what is none.
    """
    found = check_spec(value, where)
    for fields in (found["base"], *(one["changes"] for axis in found["axes"] for one in axis["values"])):
        for name in fields:
            if name not in FIELDS:
                raise ValueError(f"{unknown('field', name, FIELDS)} (in {where})")
    axes = tuple(
        Axis(axis["name"], tuple(Value(one["label"], one["changes"]) for one in axis["values"]))
        for axis in found["axes"]
    )
    prompts = tuple(SetPrompt(**one) for one in found["prompts"])
    spec = Spec(**{**found, "axes": axes, "prompts": prompts, "notes": tuple(found["notes"])})
    if (cells := count_cells(spec)) > MOST_CELLS:
        raise ValueError(f"expected a grid of at most {MOST_CELLS} cells in {where}, got {cells}")
    return spec
