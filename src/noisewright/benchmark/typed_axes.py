"""Axes as they are typed, in one line each: ``--x steps=10,25,50 --y search=random,zero-order:neighbours=4``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from noisewright.benchmark.axes import axis_of, check_axes, check_fields, fields_as_typed, refused
from noisewright.benchmark.cells import MOST_CELLS, MOST_SEEDS, count_cells
from noisewright.benchmark.problems import Problems, SpecError
from noisewright.benchmark.spec import Axis, SetPrompt, Spec
from noisewright.benchmark.together import check_together
from noisewright.outside.messages import did_you_mean, first_line, short
from noisewright.request import OPTIONS
from noisewright.schemas.reading import parse_json


def grid_spec(
    axes: Mapping[str, str],
    base: Mapping[str, Any],
    prompts: Sequence[SetPrompt],
    prompt_set: str = "",
    *,
    seeds: int = 1,
    seed: int = 0,
    title: str = "",
) -> Spec:
    """The spec of axes that were typed.

    Args:
        axes: as typed, by the options that they were typed behind (``--x``), for messages.
        base: fields of the request that all cells share; they and the options of their names are the same.
        prompts: of the grid.
        prompt_set: what they were read from.
        seeds: of each prompt.
        seed: the first.
        title: of the report; by default it says what is varied.

    Raises:
        SpecError: a ValueError with a line for each problem.
    """
    problems: list[str] = []
    found: list[Axis] = []
    common = Problems()
    fields = check_fields(base, common)
    for option, text in axes.items():
        try:
            found.append(typed_axis(text, fields))
        except (ValueError, TypeError) as error:
            problems += [f"{option}: {one}" for one in str(error).split("\n")]
    names = [axis.name for axis in found]
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        problems.append(f"expected each axis once, got {twice} twice")
    else:
        check_axes(found, fields, common)
        if not problems and not common:
            check_together(found, fields, common)
    words = [OPTIONS.get(name, name).replace("_", " ") for name in names]
    varied = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "one cell"
    across = next((one for one in names if one in ("budget", "num_inference_steps")), None)
    spec = Spec("grid", title or f"By {varied}", fields, tuple(found), tuple(prompts), prompt_set, seeds, seed,
                across=across)  # fmt: skip
    if not 1 <= seeds <= MOST_SEEDS:
        common.add(f"expected seeds in [1, {MOST_SEEDS}], got {seeds}")
    if (cells := count_cells(spec)) > MOST_CELLS:
        common.add(f"expected a grid of at most {MOST_CELLS} cells, got {cells}")
    if problems or common:
        raise SpecError([*problems, *common.found])
    return spec


def typed_axis(text: str, base: Mapping[str, Any] | None = None) -> Axis:
    """An axis as it is typed: ``FIELD=VALUE,VALUE,...``, the field by its own name or its option's.

    A comma in a value is kept by double quotes around it. Several verifiers stand with ``+`` between them; a search has
    its arguments behind a colon: ``search=random,zero-order:neighbours=4``. Several have ``;`` between them, or, in
    double quotes, commas: ``search=random,"zero-order:neighbours=4,cosine=0.9"``.

    Args:
        text: as typed.
        base: fields that the values are seen with.

    Raises:
        ValueError, TypeError: with a line for each value that is wrong.
    """
    name, equals, rest = text.partition("=")
    known = fields_as_typed()
    field = known.get(name.strip())
    if not equals or not name.strip():
        raise ValueError(f"expected an axis as FIELD=VALUE,VALUE, got {short(text)}")
    if field is None:
        near = did_you_mean(name.strip(), known)
        raise ValueError(f"expected a field of a request, such as steps, search or budget, got {short(name)}{near}")
    if not rest.strip():
        raise ValueError(f"expected values of {name.strip()} behind the equals sign, got none")
    try:
        cells = [one.strip() for one in next(csv.reader([rest], skipinitialspace=True, strict=True))]
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"expected values with commas between them, got {short(rest)}: {error}") from None
    if not all(cells):
        raise ValueError(f"expected a value between any two commas of {name.strip()}, got none in {short(rest)}")
    problems, given, wrong = Problems(), list[Any](), list[str]()
    for one in cells:
        try:
            given.append(_typed_search(one) if field == "search" else typed_value(field, one))
        except (ValueError, TypeError) as error:
            wrong.append(first_line(error))
    axis = None if wrong else axis_of(field, given, base or {}, problems)
    if axis is None:
        raise SpecError([*wrong, *problems.found])
    return axis


def typed_value(field: str, text: str) -> Any:
    """A field's value from text: as JSON where the field takes that and it is some, else as text.

    Raises:
        ValueError, TypeError: in one line, where no request takes it.
    """
    if field in ("verifier", "judge"):
        return [one.strip() for one in text.split("+")]
    tries: list[Any] = []
    with suppress(ValueError):
        tries.append(parse_json(text, field))
    tries.append({"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text))
    said = ""
    for value in tries:
        said = refused(field, value)
        if not said:
            return value
    raise ValueError(said)


def _typed_search(text: str) -> Any:
    name, colon, rest = text.partition(":")
    if not colon:
        return text
    arguments: dict[str, Any] = {}
    for part in rest.split(";") if ";" in rest else _parts(rest):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ValueError(f"expected a search as NAME:KEY=VALUE;KEY=VALUE, got {short(text)}")
        if key.strip().replace("-", "_") in arguments:
            raise ValueError(f"expected each argument of {short(name)} once, got {short(key.strip())} twice")
        arguments[key.strip().replace("-", "_")] = value.strip()
    return {"label": text, "search": name, "search_args": arguments}


def _parts(text: str) -> list[str]:
    """``KEY=VALUE`` with commas between them; a part without an equals sign belongs to the value before it."""
    found: list[str] = []
    for part in text.split(","):
        if found and "=" not in part:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found
