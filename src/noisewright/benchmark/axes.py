"""Axes: what is varied, as a spec file lists it and as it is typed in one line (``steps=10,25,50``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from noisewright import registry
from noisewright.benchmark.cells import OWN
from noisewright.benchmark.problems import Problems
from noisewright.benchmark.spec import Axis, Value
from noisewright.outside.bundled import is_own
from noisewright.outside.messages import first_line, short, unknown
from noisewright.request import OPTIONS, Request, check_names
from noisewright.schemas.checked import PLAIN, checked
from noisewright.schemas.reading import is_file

MOST_AXES = 20
MOST_VALUES = 10_000
MAPPINGS = ("search_args", "target", "ensemble", "pipeline_args")
"""Fields whose values may be tables themselves."""

FIELDS = tuple(name for name in Request.model_fields if name not in OWN)
LONGEST_LABEL = 200


@cache
def fields_as_typed() -> dict[str, str]:
    """Fields by the names that options have, with ``-`` and with ``_``, and by their own."""
    found = {name: name for name in FIELDS}
    found.update({OPTIONS[name]: name for name in FIELDS if name in OPTIONS})
    return found | {name.replace("_", "-"): field for name, field in found.items()}


def check_fields(given: Mapping[str, Any], problems: Problems, *path: str | int) -> dict[str, Any]:
    """The fields that a request takes, each by itself; a problem for each that it does not.

    Args:
        given: values by field name.
        problems: collects.
        path: where they stand in the file.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in OWN:
            why = "prompts and seeds have keys of their own" if name != "given_pipeline" else "a spec names its model"
            problems.add(f"expected no {name} here: {why}", *path, name)
        elif name not in FIELDS:
            problems.add(_no_field(name), *path, name)
        elif wrong := _refused_parts(name, value):
            for place, said in wrong.items():
                problems.add(said, *path, name, *([] if place is None else [place]))
        else:
            found[name] = value
    return found


def _no_field(name: str) -> str:
    known = fields_as_typed()
    if name in known:
        return f"unknown field {short(name)}: its name here is {known[name]}"
    return unknown("field", name, FIELDS)


def _refused_parts(name: str, value: Any) -> dict[int | None, str]:
    """Why a request does not take a value, by the place in it (of several verifiers), or None; empty where it does."""
    if name in ("verifier", "judge") and isinstance(value, list) and len(value) < MOST_VALUES:
        wrong: dict[int | None, str] = {
            place: said for place, one in enumerate(value) if (said := refused(name, [one]))
        }
        if wrong:
            return wrong
    said = refused(name, value)
    return {None: said} if said else {}


def refused(name: str, value: Any) -> str:
    """Why a request does not take a value; "" where it does."""
    try:
        checked(PLAIN, value, name)
        request = Request(prompt="any", **{name: value})
        check_names(request)
        if request.model is not None and is_own(request.model):  # of others that is known where they are loaded
            registry.find_model(request.model)
        for one in (*(request.verifier or ()), *(request.judge or ())):
            found = registry.from_file(one) if isinstance(one, str) else None
            if found is not None and not is_file(found.file):
                return f"expected a {name} as FILE.py:NAME, got {short(one)}, whose file is not there"
    except (ValueError, TypeError) as error:
        return first_line(error)
    return ""


def axis_of(name: str, given: Any, base: Mapping[str, Any], problems: Problems, *path: str | int) -> Axis | None:
    """An axis of a spec file; None where it is wrong.

    Args:
        name: a field's, or any other where all its values are tables that set fields.
        given: the list of its values.
        base: the fields that they are seen with.
        problems: collects.
        path: where the axes stand in the file.
    """
    where = (*path, name)
    if name in OWN:
        problems.add(f"expected no axis {name}: prompts and seeds have keys of their own", *where)
        return None
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_LABEL:
        problems.add(f"expected an axis's name as one line of text, got {short(name)}", *where)
        return None
    if not isinstance(given, list) or not given:
        got = "an empty list" if isinstance(given, list) else short(given)
        problems.add(f"expected a list of values as axis {name}, got {got}", *where)
        return None
    if len(given) > MOST_VALUES:
        problems.add(f"expected at most {MOST_VALUES} values of axis {name}, got {len(given)}", *where)
        return None
    if name not in FIELDS and not all(isinstance(one, dict) for one in given):
        place = next(place for place, one in enumerate(given) if not isinstance(one, dict))
        hint = f"or else a table that sets fields as a value of that axis, got {short(given[place])}"
        problems.add(f"{_no_field(name)}; {hint}", *where)
        return None
    values = [_value(name, one, problems, *where, place) for place, one in enumerate(given)]
    if any(one is None for one in values):
        return None
    axis = Axis(name, tuple(one for one in values if one is not None))
    return axis if _differ(axis, base, problems, *where) else None


def _value(name: str, given: Any, problems: Problems, *path: str | int) -> Value | None:
    if not isinstance(given, dict) or (name in MAPPINGS and "label" not in given):
        found = check_fields({name: given}, problems, *path)
        return Value(_one_line(label_of(given)), found) if found else None
    changes = {key: one for key, one in given.items() if key != "label"}
    if not changes:
        problems.add(f"expected fields to set in a value of axis {name}, got none", *path)
        return None
    found = check_fields(changes, problems, *path)
    label = given.get("label", _one_line(label_of(changes)))
    if not isinstance(label, str) or not label.strip() or not label.isprintable() or len(label) > LONGEST_LABEL:
        problems.add(f"expected a label as one line of text, got {short(label)}", *path, "label")
        return None
    return Value(label.strip(), found) if len(found) == len(changes) else None


def _differ(axis: Axis, base: Mapping[str, Any], problems: Problems, *path: str | int) -> bool:
    """Whether no label stands on an axis twice, and no two values ask for the same."""
    labels: dict[str, int] = {}
    digests: dict[str, int] = {}
    well = True
    for place, one in enumerate(axis.values):
        if labels.setdefault(one.label, place) != place:
            problems.add(f"expected each label of axis {axis.name} once, got {short(one.label)} twice", *path, place)
            well = False
            continue
        try:
            digest = Request(**{**base, **one.changes}).digest
        except (ValueError, TypeError):
            continue  # what fields say of each other is looked at later
        first = digests.setdefault(digest, place)
        if first != place:
            both = f"{short(axis.values[first].label)} and {short(one.label)}"
            problems.add(f"expected values of axis {axis.name} that differ, got {both}, which ask for the same", *path,
                         place)  # fmt: skip
            well = False
    return well


def check_axes(
    axes: Sequence[Axis], base: Mapping[str, Any], problems: Problems, above: tuple[str, str] = ("base", "axes")
) -> None:
    """Two axes do not set one field, and what base says of a field is not for nothing.

    Args:
        axes: each well by itself.
        base: the fields of all cells.
        problems: collects.
        above: the tables in which base and axes stand.
    """
    setters: dict[str, str] = {}
    if len(axes) > MOST_AXES:
        problems.add(f"expected at most {MOST_AXES} axes, got {len(axes)}", above[1])
    for axis in axes:
        counts: dict[str, int] = {}
        for field in (field for one in axis.values for field in one.changes):
            counts[field] = counts.get(field, 0) + 1
        for field, count in counts.items():
            other = setters.setdefault(field, axis.name)
            if other != axis.name:
                problems.add(f"expected {field} on one axis, got it on {other} and {axis.name}", above[1], axis.name)
            elif field in base and count == len(axis.values):
                said = f"expected {field} for all cells or on an axis, got both: every value of {axis.name} sets it"
                problems.add(said, above[0], field)


HERE = ("/", "~/", "./", "../")
"""How a path begins that is of one machine; ``owner/name`` is one of a hub."""


def _one_line(text: str) -> str:
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:LONGEST_LABEL] or "none"


def label_of(value: Any) -> str:
    """What a value is called where nobody named it; of a file or a directory of this machine its name alone."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return " + ".join(label_of(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {label_of(one)}" for key, one in value.items())
    text = str(value)
    kind, colon, rest = text.rpartition(":") if isinstance(value, str) else ("", "", "")
    if colon and rest.startswith(HERE) and not rest.startswith("//"):  # clip:/home/me/model, and no URL
        return f"{kind}:{label_of(rest)}"
    return text.rstrip("/").rpartition("/")[2] or text if text.startswith(HERE) else text
