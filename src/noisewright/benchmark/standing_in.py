"""Another model for a spec: its own name, and what stands in for the rest where it is a bundled one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noisewright.benchmark.problems import Problems
from noisewright.benchmark.toml_lines import Path
from noisewright.outside.bundled import is_own
from noisewright.outside.messages import short, unknown

KEYS = ("model", "names", "drop", "base", "axes", "prompts", "seeds")
NAMED = ("verifier", "judge", "ensemble", "target")
"""Fields whose values name verifiers, or are by them."""

MAPPED = ("ensemble", "target")
"""Those of them whose values may be tables."""


def for_model(value: dict[str, Any], model: str | None, problems: Problems) -> dict[str, Any]:
    """A spec's tables for a model; where it is a bundled one, ``[bundled]`` says what stands in.

    Args:
        value: the spec as it was read.
        model: in place of the spec's; None keeps that.
        problems: collects, and is told where values come from.
    """
    bundled = table_of(value, "bundled", problems)
    base, axes = table_of(value, "base", problems), table_of(value, "axes", problems)
    _check(bundled, {**base, **axes}, problems)
    moved: dict[Path, Path | None] = {}
    if model is not None:
        base = {**base, "model": model}
        moved["base", "model"] = None
    given = str(base.get("model", ""))
    meant = bundled.get("model")
    value = {key: one for key, one in value.items() if key != "bundled"}
    if bundled and is_own(given) and (meant is None or given == meant):
        value, base, axes = _stood_in(value, base, axes, bundled, moved)
        problems.move(moved)
    elif bundled and is_own(given):
        problems.move(moved)
        problems.add(f"expected {short(meant)} as the bundled model of this spec, got {short(given)}", "base", "model")
    else:
        problems.move(moved)
    return {**value, "base": base, "axes": axes}


def table_of(value: Mapping[str, Any], key: str, problems: Problems, *above: str) -> dict[str, Any]:
    """A table; a problem where it is something else."""
    found = value.get(key, {})
    if not isinstance(found, dict):
        problems.add(f"expected a table as {key}, got {short(found)}", *above, key)
        return {}
    return found


def _check(bundled: Mapping[str, Any], there: Mapping[str, Any], problems: Problems) -> None:
    """What is wrong with ``[bundled]`` itself, whether or not it is used."""
    for key in bundled:
        if key not in KEYS:
            problems.add(unknown("key of [bundled]", key, KEYS), "bundled", key)
    model = bundled.get("model")
    if model is not None and not (isinstance(model, str) and is_own(model)):
        problems.add(f"expected a bundled model such as noisewright/shapes, got {short(model)}", "bundled", "model")
    for key in ("base", "axes", "prompts"):
        table_of(bundled, key, problems, "bundled")
    for name, other in table_of(bundled, "names", problems, "bundled").items():
        if not isinstance(other, str):
            problems.add(f"expected a verifier's name for {short(name)}, got {short(other)}", "bundled", "names", name)
    drop = bundled.get("drop", [])
    if not isinstance(drop, list) or not all(isinstance(one, str) for one in drop):
        problems.add(f"expected drop as a list of keys of [base] and [axes], got {short(drop)}", "bundled", "drop")
        return
    for place, one in enumerate(drop):
        if one not in there:
            problems.add(unknown("key of [base] and [axes]", one, list(there)), "bundled", "drop", place)


def _stood_in(
    value: dict[str, Any], base: dict[str, Any], axes: dict[str, Any], bundled: Mapping[str, Any],
    moved: dict[Path, Path | None],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:  # fmt: skip
    tables = {key: one for key in ("names", "base", "axes") if isinstance(one := bundled.get(key, {}), dict)}
    names = {one: other for one, other in tables.get("names", {}).items() if isinstance(other, str)}
    drop = bundled.get("drop", [])
    dropped = drop if isinstance(drop, list) else []
    kept = {key: _renamed(key, one, names) for key, one in base.items() if key not in dropped}
    varied = {key: _renamed(key, one, names) for key, one in axes.items() if key not in dropped}
    for table in ("base", "axes"):
        moved.update({(table, key): ("bundled", table, key) for key in tables.get(table, {})})
    for key in ("prompts", "seeds"):
        if key in bundled:
            value[key] = bundled[key]
            moved[(key,)] = ("bundled", key)
    reference = value.get("reference")
    if isinstance(reference, dict):
        value["reference"] = {
            axis: _relabelled(one, names) if axis in NAMED else one for axis, one in reference.items()
        }
    return value, {**kept, **tables.get("base", {})}, {**varied, **tables.get("axes", {})}


def _renamed(key: str, value: Any, names: Mapping[str, str]) -> Any:
    """A field's value with other names of verifiers; of an axis those of the fields that its tables set."""
    if not isinstance(value, list):
        return _all_renamed(value, names) if key in NAMED else value
    return [_value_renamed(key, one, names) for one in value]


def _value_renamed(key: str, value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict) and (key not in MAPPED or "label" in value):
        return {field: _all_renamed(one, names) if field in NAMED else one for field, one in value.items()}
    return _all_renamed(value, names) if key in NAMED else value


def _all_renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {_name(key, names): one for key, one in value.items()}
    if isinstance(value, list):
        return [_all_renamed(one, names) for one in value]
    return _name(value, names) if isinstance(value, str) else value


def _name(text: str, names: Mapping[str, str]) -> str:
    """Another name for a verifier; what stands behind a colon is for the one that is replaced, and goes with it."""
    return names.get(text) or names.get(text.partition(":")[0], text)


def _relabelled(label: Any, names: Mapping[str, str]) -> Any:
    """A label that names verifiers, as :func:`noisewright.benchmark.axes.label_of` writes it."""
    return " + ".join(_name(one, names) for one in label.split(" + ")) if isinstance(label, str) else label
