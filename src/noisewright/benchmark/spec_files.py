"""Spec files: TOML, read into a :class:`~noisewright.benchmark.spec.Spec`, with all that is wrong said at once.

::

    title = "More steps, or a search"       # one line
    seeds = 2                               # starting seeds for each prompt (1)
    seed = 0                                # the first prompt's first
    seed_step = 1000                        # from one prompt to the next; 0: all prompts share them
    across = "budget"                       # the axis along which curves are drawn
    reference = { search = "random" }       # what the other points are compared with
    notes = ["What the source says."]       # paragraphs for the report

    [base]                                  # any field of a request, by its name in Python
    model = "noisewright/shapes"
    num_inference_steps = 10
    verifier = ["shapes-clip"]

    [prompts]                               # one of set, file, texts; and what is taken of it
    set = "noisewright/shapes/test"         # or file = "prompts.csv" (beside the spec), or texts = ["...", "..."]
    limit = 20                              # also: category, sample (with sample_seed), column, category_column

    [axes]                                  # the grid is their product
    budget = ["8 images", "32 images"]      # a field: its values
    search = [                              # several fields together: tables, whose label names them
      "random",
      { label = "zero-order, 4", search = "zero-order", search_args = { neighbours = 4 } },
    ]

    [bundled]                               # what stands in where the model is one in the box: names for names
    names = { clip = "shapes-clip" }        # of verifiers and judges, wherever they stand
    prompts = { set = "noisewright/shapes/test", limit = 4 }
    base = { num_inference_steps = 10 }     # added to [base]; a key of [axes] there replaces that axis
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from noisewright.benchmark.axes import axis_of, check_axes, check_fields
from noisewright.benchmark.problems import Problems
from noisewright.benchmark.prompt_sets import numbered, read_prompt_set
from noisewright.benchmark.spec import SetPrompt, Spec
from noisewright.benchmark.toml_lines import Lines
from noisewright.outside.bounds import MOST_PROMPTS
from noisewright.outside.bundled import is_own
from noisewright.outside.messages import short, unknown
from noisewright.outside.reading import read_text, shown

MOST_BYTES = 2**22
MOST_SEEDS = 10_000
MOST_NOTES = 1000

KEYS = ("title", "seeds", "seed", "seed_step", "across", "reference", "notes", "base", "prompts", "axes", "bundled")
PROMPT_KEYS = ("set", "file", "texts", "column", "category_column", "category", "limit", "sample", "sample_seed")
BUNDLED_KEYS = ("names", "prompts", "base", "axes", "drop")


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
    changes: Mapping[str, Any] | None = None,
    prompts: tuple[Sequence[SetPrompt], str] | None = None,
    **settings: Any,
) -> Spec:
    """The spec of a file, or of a built-in's name.

    Args:
        source: ``FILE.toml``, or a name of :func:`builtin_specs`.
        model: in place of the spec's; where it is a bundled one, what the spec says under ``bundled`` is done.
        changes: fields of the request in place of those of ``base``.
        prompts: in place of the spec's, and what they were read from.
        settings: ``seeds``, ``seed``, ``seed_step``, ``limit`` (of prompts) in place of the spec's.

    Raises:
        SpecError: with a line for each problem.
        ValueError: in one line, where there is no such spec.
    """
    name, text, home = _text(source)
    value, lines = _toml(text, shown(str(source)))
    problems = Problems(shown(str(source)), lines)
    value = _replaced(value, model, problems)
    if changes:
        value["base"] = {**_table(value, "base", problems), **changes}
    spec = _spec(name, value, home, prompts, settings, problems)
    problems.raise_any()
    return spec


def _text(source: str | Path) -> tuple[str, str, Path]:
    """A spec's name, its text, and the directory that its files are named from."""
    name = str(source)
    if name in builtin_specs():
        file = resources.files("noisewright.benchmark") / "builtin" / f"{name}.toml"
        return name, file.read_text(encoding="utf-8"), Path()
    path = Path(name)
    if not name.endswith(".toml") and not path.exists():
        raise ValueError(f"{unknown('benchmark', name, list(builtin_specs()))}; or a spec as FILE.toml")
    return path.stem, read_text(path, "a spec as a TOML file", most=MOST_BYTES), path.parent


def _toml(text: str, name: str) -> tuple[dict[str, Any], Lines]:
    try:
        return tomllib.loads(text), Lines(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"expected TOML in {name}, got {short(str(error), 200)[1:-1]}") from None
    except RecursionError:
        raise ValueError(f"expected TOML in {name}, got lists or tables nested too deeply") from None


def _table(value: Mapping[str, Any], key: str, problems: Problems) -> dict[str, Any]:
    found = value.get(key, {})
    if not isinstance(found, dict):
        problems.add(f"expected a table as {key}, got {short(found)}", key)
        return {}
    return found


def _known(table: Mapping[str, Any], known: Sequence[str], kind: str, problems: Problems, *path: str) -> None:
    for key in table:
        if key not in known:
            problems.add(unknown(kind, key, list(known)), *path, key)


def _replaced(value: dict[str, Any], model: str | None, problems: Problems) -> dict[str, Any]:
    """The spec for another model; one in the box has prompts and verifiers of its own."""
    value = dict(value)
    bundled = _table(value, "bundled", problems)
    _known(bundled, BUNDLED_KEYS, "key of [bundled]", problems, "bundled")
    base, axes = _table(value, "base", problems), _table(value, "axes", problems)
    if model is not None:
        base = {**base, "model": model}
    if is_own(str(base.get("model", ""))) and bundled:
        names = {one: other for one, other in _table(bundled, "names", problems).items() if isinstance(other, str)}
        drop = bundled.get("drop", [])
        kept = {key: one for key, one in base.items() if not (isinstance(drop, list) and key in drop)}
        base = {**_renamed(kept, names), **_table(bundled, "base", problems)}
        axes = {**_renamed(axes, names), **_table(bundled, "axes", problems)}
        value["prompts"] = bundled.get("prompts", value.get("prompts"))
        problems.stands_in("bundled")
    value.pop("bundled", None)
    return {**value, "base": base, "axes": axes}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Names of verifiers, at any depth, as keys too (weights of an ensemble)."""
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


def _spec(
    name: str, value: Mapping[str, Any], home: Path, prompts: tuple[Sequence[SetPrompt], str] | None,
    settings: Mapping[str, Any], problems: Problems,
) -> Spec:  # fmt: skip
    _known(value, KEYS, "key of a spec", problems)
    base = check_fields(_table(value, "base", problems), problems, "base")
    axes = tuple(
        axis for key, given in _table(value, "axes", problems).items()
        if (axis := axis_of(key, given, base, problems, "axes")) is not None
    )  # fmt: skip
    check_axes(axes, problems, "axes")
    numbers = {**value, **{key: one for key, one in settings.items() if key != "limit" and one is not None}}
    found, prompt_set = _prompts(value, home, prompts, settings.get("limit"), problems)
    return Spec(
        name=name,
        title=_words(numbers.get("title", name), "title", problems),
        base=base,
        axes=axes,
        prompts=found,
        prompt_set=prompt_set,
        seeds=_count(numbers, "seeds", 1, 1, MOST_SEEDS, problems),
        seed=_count(numbers, "seed", 0, 0, 2**62, problems),
        seed_step=_count(numbers, "seed_step", 1000, 0, 2**40, problems),
        reference=_reference(value, axes, problems),
        across=_across(value, axes, problems),
        notes=_notes(value, problems),
    )


def _words(given: Any, key: str, problems: Problems) -> str:
    if not isinstance(given, str) or "\n" in given or len(given) > 1000:
        problems.add(f"expected one line of text as {key}, got {short(given)}", key)
        return ""
    return given


def _count(value: Mapping[str, Any], key: str, usual: int, least: int, most: int, problems: Problems) -> int:
    given = value.get(key, usual)
    if type(given) is not int or not least <= given <= most:
        problems.add(f"expected {key} in [{least}, {most}], got {short(given)}", key)
        return usual
    return given


def _reference(value: Mapping[str, Any], axes: Sequence[Any], problems: Problems) -> dict[str, str]:
    found = {}
    labels = {axis.name: [one.label for one in axis.values] for axis in axes}
    named = list(_table(value, "axes", problems))
    for key, label in _table(value, "reference", problems).items():
        if key not in named:
            problems.add(unknown("axis", key, named), "reference", key)
        elif key not in labels:
            continue  # what is wrong with the axis itself is said
        elif not isinstance(label, str) or label not in labels[key]:
            problems.add(unknown(f"label of axis {key}", str(label), labels[key]), "reference", key)
        else:
            found[key] = label
    return found


def _across(value: Mapping[str, Any], axes: Sequence[Any], problems: Problems) -> str | None:
    given = value.get("across")
    names = list(_table(value, "axes", problems))
    if given is None:
        return next((name for name in ("budget", "num_inference_steps") if name in names), None)
    if given not in names:
        problems.add(unknown("axis", str(given), names), "across")
        return None
    return str(given)


def _notes(value: Mapping[str, Any], problems: Problems) -> tuple[str, ...]:
    given = value.get("notes", [])
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given) or len(given) > MOST_NOTES:
        problems.add(f"expected notes as a list of texts, got {short(given)}", "notes")
        return ()
    return tuple(given)


def _prompts(
    value: Mapping[str, Any], home: Path, given: tuple[Sequence[SetPrompt], str] | None, limit: int | None,
    problems: Problems,
) -> tuple[tuple[SetPrompt, ...], str]:  # fmt: skip
    if given is not None:
        return tuple(given[0])[:limit], given[1]
    table = dict(_table(value, "prompts", problems))
    where = "bundled" if problems.standing_in else "prompts"
    _known(table, PROMPT_KEYS, "key of [prompts]", problems, where)
    named = [key for key in ("set", "file", "texts") if key in table]
    if len(named) != 1:
        got = " and ".join(named) or "none"
        problems.add(f"expected one of set, file and texts in [prompts], got {got}", where)
        return (), ""
    try:
        found, prompt_set, warnings = _read_prompts(table, home)
    except (ValueError, TypeError) as error:
        problems.add(str(error), where, named[0])
        return (), ""
    problems.warnings.extend(warnings)
    return found[:limit], prompt_set


def _read_prompts(table: Mapping[str, Any], home: Path) -> tuple[tuple[SetPrompt, ...], str, list[str]]:
    texts = table.get("texts")
    options = {key: table[key] for key in PROMPT_KEYS[3:8] if key in table}
    if texts is not None:
        if not isinstance(texts, list) or len(texts) > MOST_PROMPTS:
            raise ValueError(f"expected texts as a list, got {short(texts)}")
        if options:
            raise ValueError(f"expected no {next(iter(options))} beside texts")
        return numbered(texts), "", []
    source = table.get("set", table.get("file"))
    for key in ("column", "category_column", "category"):
        if key in options and not isinstance(options[key], str):
            raise ValueError(f"expected {key} as text, got {short(options[key])}")
    if not isinstance(source, str):
        raise ValueError(f"expected a set or file as text, got {short(source)}")
    path: str | Path = source if "set" in table else home / source
    found, warnings = read_prompt_set(path, seed=table.get("sample_seed", 0), **options)
    return found, source if "set" in table else Path(source).name, warnings
