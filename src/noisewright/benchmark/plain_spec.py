"""A spec as JSON, and back: what a ``benchmark.json`` holds, which is data, and may have been written by anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noisewright.benchmark.axes import FIELDS
from noisewright.benchmark.cells import MOST_CELLS, count_cells
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.outside.messages import cut, short, unknown
from noisewright.registry import trust
from noisewright.request import NONE
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
    """The spec that :func:`spec_to_json` gave. It may be shown; :func:`check_trusted` says whether it may be run.

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


def check_trusted(spec: Spec, where: str) -> None:
    """Refuse to run a spec that was read from a benchmark's directory, where it names what only a person may.

    It may name searches, solvers, schedules and verifiers of the registry, models of the package, directories and what
    the hub's cache has, and files to read that hold data (:mod:`noisewright.registry.trust`).

    Args:
        spec: as it was read.
        where: what it was read from, for the message.

    Raises:
        ValueError: in one line, naming the first such thing.
    """
    for fields in (spec.base, *(one.changes for axis in spec.axes for one in axis.values)):
        if fields.get("score_cache") is not None:
            raise ValueError(_asking(where, f"names the directory {_shown(fields['score_cache'])} to write scores to"))
        for key in ("verifier", "judge"):
            given = fields.get(key) or []
            for name in [] if given in (NONE, NONE[0]) else given if isinstance(given, list) else [given]:
                _check(where, key, name, lambda one: trust.check_verifier(one, local=True))
        for key in ("model", "config"):
            if fields.get(key) is not None:
                _check(where, key, fields[key], trust.check_model)


def _check(where: str, key: str, name: Any, check: Any) -> None:
    try:
        check(name)
    except trust.Untrusted as error:
        raise ValueError(_asking(where, f"names the {key} {_shown(name)}, {error}")) from None


def _asking(where: str, what: str) -> str:
    return f"{where} {what}: give the spec itself, if you trust who made it"


def _shown(value: Any) -> str:
    return cut(value, 120) if isinstance(value, str) and value.isprintable() else short(value, 120)
