"""A spec as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value


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
    """The spec that :func:`spec_to_json` gave.

    Raises:
        ValueError: in one line, on what is none.
    """
    try:
        axes = tuple(
            Axis(axis["name"], tuple(Value(one["label"], one["changes"]) for one in axis["values"]))
            for axis in value["axes"]
        )
        prompts = tuple(SetPrompt(**one) for one in value["prompts"])
        return Spec(**{**value, "axes": axes, "prompts": prompts, "notes": tuple(value["notes"])})
    except (TypeError, KeyError) as error:
        raise ValueError(f"expected a spec in {where}, got a damaged one ({error})") from None
