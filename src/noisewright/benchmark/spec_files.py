"""Spec files: TOML, read into a :class:`~noisewright.benchmark.spec.Spec`, with all that is wrong said at once.

::

    title = "More steps, or a search"       # one line
    seeds = 2                               # starting seeds for each prompt (1)
    seed = 0                                # the first prompt's first
    seed_step = 1000                        # from one prompt to the next; 0: all prompts share them
    across = "budget"                       # the axis along which curves are drawn
    reference = { search = "random" }       # what the other points are compared with: an axis's label
    notes = ["What the source says."]       # paragraphs for the report

    [base]                                  # any field of a request, by its name in Python
    model = "noisewright/shapes"
    num_inference_steps = 10
    verifier = ["shapes-clip"]

    [prompts]                               # one of set, file and texts; and what is taken of it
    set = "noisewright/shapes/test"         # or file = "prompts.csv" (beside the spec), or texts = ["...", "..."]
    limit = 20                              # also: category, every, sample (drawn by seed), column, category_column;
                                            # source: where a file is to be had, for who lacks it

    [axes]                                  # the grid is their product
    budget = ["8 images", "32 images"]      # a field: its values
    search = [                              # several fields together: tables, whose label names them
      "random",
      { label = "zero-order, 4", search = "zero-order", search_args = { neighbours = 4 } },
    ]

    [bundled]                               # what stands in where the model is this one, in the package
    model = "noisewright/shapes"
    names = { clip = "shapes-clip" }        # of verifiers and judges, wherever a field names them
    drop = ["dtype"]                        # keys of [base] and [axes]
    base = { num_inference_steps = 10 }     # put into [base]; axes = { ... } likewise
    prompts = { set = "noisewright/shapes/test", limit = 4 }
    seeds = 4

An axis has a field's name, or any other where all its values are tables. A field stands on one axis. What ``[base]``
says of it is for those values that do not set it: where all do, that is a contradiction, and refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from noisewright.benchmark.axes import axis_of, check_axes, check_fields
from noisewright.benchmark.cells import MOST_CELLS, MOST_SEEDS, count_cells
from noisewright.benchmark.problems import Problems, SpecError
from noisewright.benchmark.prompt_sets import BUNDLED, numbered, read_prompt_set
from noisewright.benchmark.spec import Axis, SetPrompt, Spec
from noisewright.benchmark.standing_in import for_model, table_of
from noisewright.benchmark.together import check_together
from noisewright.benchmark.toml_lines import Lines
from noisewright.outside.bounds import MOST_PROMPTS, no_more
from noisewright.outside.messages import short, unknown
from noisewright.outside.reading import read_text, shown
from noisewright.schemas.reading import exists

MOST_BYTES = 2**22
MOST_NOTES = 1000
LONGEST_LINE = 1000
LONGEST_NOTE = 20_000

KEYS = ("title", "seeds", "seed", "seed_step", "across", "reference", "notes", "base", "prompts", "axes", "bundled")
CHOICES = ("column", "category_column", "category", "every", "limit", "sample", "seed")
"""Keys of ``[prompts]`` that :func:`~noisewright.benchmark.prompt_sets.read_prompt_set` takes."""

PROMPT_KEYS = ("set", "file", "texts", "source", *CHOICES)
SETTINGS = ("seeds", "seed", "seed_step", "limit")
FILES = ("model", "schedule", "config")
"""Fields whose files are looked for beside the spec first."""


def builtin_specs() -> dict[str, str]:
    """The specs that come with the package: title by name."""
    home = resources.files("noisewright.benchmark") / "builtin"
    found = {}
    for one in sorted(home.iterdir(), key=lambda one: one.name):
        if one.name.endswith(".toml"):
            value = tomllib.loads(one.read_text(encoding="utf-8"))
            found[one.name.removesuffix(".toml")] = str(value.get("title", ""))
    return found


def read_spec(
    source: str | Path,
    *,
    model: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    prompts: tuple[Sequence[SetPrompt], str] | None = None,
    tell: Callable[[str], None] | None = None,
    **settings: Any,
) -> Spec:
    """The spec of a file, or of a built-in's name.

    Args:
        source: ``FILE.toml``, or a name of :func:`builtin_specs`.
        model: in place of the spec's; where it is a bundled one, what the spec says under ``bundled`` is done.
        overrides: fields of the request in place of those of ``base``.
        prompts: in place of the spec's, and what they were read from.
        tell: is told what a person should know besides, such as prompts that stand in a file twice.
        settings: ``seeds``, ``seed``, ``seed_step``, ``limit`` (of prompts) in place of the spec's; None keeps it.

    Raises:
        SpecError: a ValueError with a line for each problem.
        ValueError: in one line, where there is no such spec, or its file cannot be read.
        TypeError: on another setting.
    """
    for key in settings:
        if key not in SETTINGS:
            raise TypeError(unknown("setting of a spec", key, SETTINGS))
    name, text, home, place = _text(source)
    value, lines = _toml(text, shown(source))
    problems = Problems(shown(source), lines)
    _known(value, KEYS, "key of a spec", problems)
    value = for_model(value, model, problems)
    if overrides:
        value["base"] = {**value["base"], **overrides}
        problems.move({("base", key): None for key in overrides})
    given = {key: one for key, one in settings.items() if one is not None}
    problems.move({(key,): None for key in given})
    spec = _spec(name, {**value, **given}, home, place, prompts, problems)
    problems.raise_any()
    if tell is not None:
        for one in problems.warnings:
            tell(one)
    return spec


def _text(source: str | Path) -> tuple[str, str, Path, Path]:
    """A spec's name, its text, the directory that its files are named from, and the one that its prompts are."""
    name = str(source)
    if name in builtin_specs():
        with resources.as_file(resources.files("noisewright.benchmark") / "builtin") as home:
            return name, (home / f"{name}.toml").read_text(encoding="utf-8"), home, Path()
    path = Path(name)
    if not name.endswith(".toml") and not exists(path):
        raise ValueError(f"{unknown('benchmark', name, list(builtin_specs()))}; or a spec as FILE.toml")
    text = read_text(path, "a spec as a TOML file", most=MOST_BYTES)
    return shown(path.stem)[:100], text, path.parent, path.parent


def _toml(text: str, name: str) -> tuple[dict[str, Any], Lines]:
    try:
        return tomllib.loads(text), Lines(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
    except RecursionError:
        raise SpecError([f"{name}: expected TOML, got lists or tables nested too deeply"]) from None
    except ValueError as error:  # such as a number of ten thousand digits
        said = str(error)
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", said)
    line = text.count("\n") + 1 if found is None or found[1] is None else int(found[1])
    what = said[: found.start()] if found is not None else said
    where = f"line {line} of {name}" if found is not None else name
    column = f" in column {found[2]}" if found is not None and found[2] is not None else ""
    raise SpecError([f"{where}: expected TOML, got {short(what, 150)[1:-1]}{column}"])


def _known(table: Mapping[str, Any], known: Sequence[str], kind: str, problems: Problems, *path: str) -> None:
    for key in table:
        if key not in known:
            problems.add(unknown(kind, key, list(known)), *path, key)


def _spec(
    name: str, value: dict[str, Any], home: Path, place: Path, prompts: tuple[Sequence[SetPrompt], str] | None,
    problems: Problems,
) -> Spec:  # fmt: skip
    table = {key: _beside(home, key, one) for key, one in value["base"].items()}
    base = check_fields(table, problems, "base")
    lists = {key: _beside(home, key, one) for key, one in value["axes"].items()}
    found = [axis_of(key, given, base, problems, "axes") for key, given in lists.items()]
    axes = tuple(axis for axis in found if axis is not None)
    check_axes(axes, base, problems)
    if len(base) == len(table) and len(axes) == len(lists):
        check_together(axes, base, problems)
    some, prompt_set = _prompts(value, place, prompts, problems)
    spec = Spec(
        name=name,
        title=_words(value.get("title", name), "title", problems),
        base=base,
        axes=axes,
        prompts=some,
        prompt_set=prompt_set,
        seeds=_count(value, "seeds", 1, 1, MOST_SEEDS, problems),
        seed=_count(value, "seed", 0, 0, 2**62, problems),
        seed_step=_count(value, "seed_step", 1000, 0, 2**40, problems),
        reference=_reference(value, axes, problems),
        across=_across(value, axes, problems),
        notes=_notes(value, problems),
    )
    if (cells := count_cells(spec)) > MOST_CELLS:
        problems.add(f"expected a grid of at most {MOST_CELLS} cells, got {cells}")
    return spec


def _beside(home: Path, key: str, value: Any) -> Any:
    """A field's or an axis's values, with files that lie beside the spec by their paths from here."""
    if isinstance(value, list):
        return [_beside(home, key, one) for one in value]
    if isinstance(value, dict):
        return {field: _beside(home, field, one) if field in FILES else one for field, one in value.items()}
    if key not in FILES or not isinstance(value, str) or not value or home == Path() or not exists(home / value):
        return value
    return str(home / value)


def _words(given: Any, key: str, problems: Problems) -> str:
    if not isinstance(given, str) or not given.isprintable() or len(given) > LONGEST_LINE:
        problems.add(f"expected one line of text as {key}, got {short(given)}", key)
        return ""
    return given


def _count(value: Mapping[str, Any], key: str, usual: int, least: int, most: int, problems: Problems) -> int:
    given = value.get(key, usual)
    if type(given) is not int or not least <= given <= most:
        problems.add(f"expected {key} in [{least}, {most}], got {short(given)}", key)
        return usual
    return given


def _reference(value: Mapping[str, Any], axes: Sequence[Axis], problems: Problems) -> dict[str, str]:
    found = {}
    labels = {axis.name: [one.label for one in axis.values] for axis in axes}
    named = list(value["axes"])
    for key, label in table_of(value, "reference", problems).items():
        if key not in named:
            problems.add(unknown("axis", key, named), "reference", key)
        elif key not in labels:
            continue  # what is wrong with the axis itself is said
        elif not isinstance(label, str) or label not in labels[key]:
            problems.add(unknown(f"label of axis {short(key)}", str(label), labels[key][:20]), "reference", key)
        else:
            found[key] = label
    return found


def _across(value: Mapping[str, Any], axes: Sequence[Axis], problems: Problems) -> str | None:
    given = value.get("across")
    names = list(value["axes"])
    if given is None:
        return next((axis.name for axis in axes if axis.name in ("budget", "num_inference_steps")), None)
    if given not in names:
        problems.add(unknown("axis", str(given), names), "across")
        return None
    return str(given)


def _notes(value: Mapping[str, Any], problems: Problems) -> tuple[str, ...]:
    given = value.get("notes", [])
    if not isinstance(given, list) or len(given) > MOST_NOTES:
        problems.add(f"expected notes as a list of at most {MOST_NOTES} texts, got {short(given)}", "notes")
        return ()
    for place, one in enumerate(given):
        if not isinstance(one, str) or not " ".join(one.split()).isprintable() or len(one) > LONGEST_NOTE:
            said = f"expected a note as a text of at most {LONGEST_NOTE} characters, got {short(one)}"
            problems.add(said, "notes", place)
            return ()
    return tuple(" ".join(one.split()) for one in given)


def _prompts(
    value: Mapping[str, Any], home: Path, given: tuple[Sequence[SetPrompt], str] | None, problems: Problems
) -> tuple[tuple[SetPrompt, ...], str]:
    limit = _count(value, "limit", MOST_PROMPTS, 1, MOST_PROMPTS, problems)
    if given is not None:
        return tuple(given[0])[:limit], given[1]
    table = table_of(value, "prompts", problems)
    _known(table, PROMPT_KEYS, "key of [prompts]", problems, "prompts")
    named = [key for key in ("set", "file", "texts") if key in table]
    if len(named) != 1:
        got = f"got {' and '.join(named)}" if named else f"got none: a set is one of {', '.join(BUNDLED)}"
        problems.add(f"expected one of set, file and texts in [prompts], {got}", "prompts", *named[1:2])
        return (), ""
    try:
        found, prompt_set, warnings = _read_prompts(table, home)
    except (ValueError, TypeError) as error:
        key = next((one for one in CHOICES if one in table and f"expected {one}" in str(error)), named[0])
        problems.add(str(error), "prompts", key)
        return (), ""
    problems.warnings.extend(warnings)
    return found[:limit], prompt_set


def _read_prompts(table: Mapping[str, Any], home: Path) -> tuple[tuple[SetPrompt, ...], str, list[str]]:
    options = {key: table[key] for key in CHOICES if key in table}
    source = table.get("source", "")
    if not isinstance(source, str) or not source.isprintable():
        raise ValueError(f"expected source as an address, got {short(source)}")
    if "texts" in table:
        texts = table["texts"]
        if not isinstance(texts, list):
            raise ValueError(f"expected texts as a list, got {short(texts)}")
        no_more(MOST_PROMPTS, "texts", texts)
        if options:
            raise ValueError(f"expected {next(iter(options))} with a set or a file, got it beside texts")
        return numbered(texts), "", []
    key = "set" if "set" in table else "file"
    given = table[key]
    if not isinstance(given, str) or not given:
        raise ValueError(f"expected {key} as text, got {short(given)}")
    if key == "set" and given not in BUNDLED:
        raise ValueError(f"{unknown('set of prompts', given, list(BUNDLED))}; a file is file = ...")
    path = home / given if key == "file" else given
    if key == "file" and not exists(path) and source:
        raise ValueError(f"expected a file of prompts, got {shown(path)}, which does not exist: get it from {source}")
    found, warnings = read_prompt_set(path, **options)
    return found, BUNDLED[given] if key == "set" else shown(Path(given).name), warnings
