"""Sets of prompts: the bundled ones, and files in the shapes that the field's sets come in.

| set | file | what is read |
|---|---|---|
| DrawBench | CSV | ``Prompts``, ``Category`` |
| PartiPrompts | TSV | ``Prompt``, ``Category`` |
| GenEval | JSON Lines | ``prompt``, ``tag`` |
| ImageReward | JSON, a list of objects | ``prompt`` |
| T2I-CompBench | text, a prompt a line | the line |

A prompt that stands there twice is taken once: real sets have such, and two equal requests are one run.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noisewright.benchmark.spec import SetPrompt
from noisewright.outside.bounds import MOST_PROMPTS
from noisewright.outside.messages import did_you_mean, short
from noisewright.outside.reading import read_text, shown
from noisewright.schemas.reading import parse_json
from noisewright.schemas.request import check_prompt
from noisewright.shapes.prompts import KINDS, kind, load_prompts, parse

BUNDLED = {"noisewright/shapes/dev": "dev", "noisewright/shapes/test": "test"}
"""Names of the bundled sets."""

PROMPT_COLUMNS = ("prompt", "prompts", "text", "caption", "captions", "sentence", "description")
CATEGORY_COLUMNS = ("category", "tag", "kind", "type", "challenge", "class")
"""Columns that are recognised, the first first, whatever their case."""

MOST_BYTES = 100 * 2**20
WHAT = "a file of prompts"

Row = tuple[int, str, str | None]
"""Line or place in the file, prompt, category."""


def read_prompt_set(
    source: str | Path,
    *,
    column: str | None = None,
    category_column: str | None = None,
    category: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> tuple[tuple[SetPrompt, ...], list[str]]:
    """The prompts of a set, in its order.

    Args:
        source: a bundled set's name, or a file: ``.csv``, ``.tsv``, ``.jsonl``, ``.json``, any other is text with a
            prompt a line.
        column: where the prompts are, in a table; by default it is recognised.
        category_column: the same of categories.
        category: only prompts of this one, whatever its case.
        limit: only the first so many, after the category.
        sample: only so many, drawn without replacement, in the set's order.
        seed: of that draw.

    Returns:
        The prompts, each with its place in the whole set, and what a person should know.

    Raises:
        ValueError: in one line, with the file's line where it is about one.
    """
    name = str(source)
    rows = _bundled(name) if name in BUNDLED else _read(Path(source), column, category_column)
    found, warnings = _once(rows, name)
    found = _of_category(found, category, name)
    if sample is not None:
        _check_count("sample", sample)
        if sample > len(found):
            raise ValueError(f"expected a sample of at most {len(found)} prompts of {shown(name)}, got {sample}")
        drawn = np.random.default_rng(seed).choice(len(found), sample, replace=False)
        found = [found[place] for place in sorted(drawn)]
    if limit is not None:
        _check_count("limit", limit)
        found = found[:limit]
    return tuple(found), warnings


def numbered(texts: Sequence[str]) -> tuple[SetPrompt, ...]:
    """Prompts that were given as texts.

    Raises:
        ValueError, TypeError: in one line.
    """
    found, _ = _once(((place, text, None) for place, text in enumerate(texts, 1)), "the list of prompts", strict=True)
    return tuple(found)


def is_set(source: str | Path) -> bool:
    """Whether a text names a set rather than being a prompt: a bundled one, or a file that is there."""
    return str(source) in BUNDLED or Path(source).is_file()


def _check_count(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"expected a {name} of at least 1, got {short(value)}")


def _bundled(name: str) -> Iterable[Row]:
    """A bundled set, kinds in turn, so that its first prompts are of all kinds."""
    texts = load_prompts(BUNDLED[name])
    kinds = [kind(parse(text)) for text in texts]
    by_kind = [[text for text, one in zip(texts, kinds, strict=True) if one == name] for name in KINDS]
    place = 0
    for turn in range(max(map(len, by_kind))):
        for name_of_kind, some in zip(KINDS, by_kind, strict=True):
            if turn < len(some):
                place += 1
                yield place, some[turn], name_of_kind


def _read(path: Path, column: str | None, category_column: str | None) -> Iterable[Row]:
    text = read_text(path, WHAT, most=MOST_BYTES)
    if not text.strip():
        raise ValueError(f"expected prompts in {shown(path)}, got an empty file")
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        return _of_tables(_table(text, "\t" if ending == ".tsv" else ",", path), path, column, category_column)
    if ending in (".jsonl", ".ndjson"):
        return _of_tables(_json_lines(text, path), path, column, category_column)
    if ending == ".json":
        return _of_tables(_json(text, path), path, column, category_column)
    for name, given in (("column", column), ("category", category_column)):
        if given is not None:
            raise ValueError(f"expected no {name} of {shown(path)}, which is text with a prompt a line, got {given}")
    lines = ((place, line.strip()) for place, line in enumerate(text.split("\n"), 1))
    return [(place, line, None) for place, line in lines if line and not line.startswith("#")]


def _table(text: str, separator: str, path: Path) -> list[tuple[int, Any]]:
    quoting: Any = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(text), delimiter=separator, quoting=quoting)
    rows: list[tuple[int, Any]] = []
    head: list[str] = []
    try:
        for cells in reader:
            if not any(one.strip() for one in cells):
                continue
            if not head:
                head = [one.strip() for one in cells]
                if len(set(head)) < len(head):
                    raise ValueError(f"expected each column once in {shown(path)}, got {short(', '.join(head))}")
                continue
            if len(cells) > len(head):
                said = f"got {len(cells)} in line {reader.line_num}"
                raise ValueError(f"expected {len(head)} columns in {shown(path)}, {said}")
            rows.append((reader.line_num, dict(zip(head, cells, strict=False))))
    except csv.Error as error:
        raise ValueError(f"expected a table in {shown(path)}, got {error} in line {reader.line_num}") from None
    if not rows:
        raise ValueError(f"expected a head and rows in {shown(path)}, got only a head")
    return rows


def _json_lines(text: str, path: Path) -> list[tuple[int, Any]]:
    lines = [(place, line) for place, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [(place, parse_json(line, f"line {place} of {shown(path)}")) for place, line in lines]


def _json(text: str, path: Path) -> list[tuple[int, Any]]:
    found = parse_json(text, shown(path))
    if isinstance(found, Mapping):  # a list inside of an object, as some sets are published
        lists = [one for one in found.values() if isinstance(one, list)]
        if len(lists) != 1:
            raise ValueError(f"expected a list of prompts in {shown(path)}, got an object with {len(lists)} lists")
        found = lists[0]
    if not isinstance(found, list):
        raise ValueError(f"expected a list of prompts in {shown(path)}, got {short(found)}")
    return list(enumerate(found, 1))


def _of_tables(
    rows: list[tuple[int, Any]], path: Path, column: str | None, category_column: str | None
) -> Iterable[Row]:
    """Rows that are objects, or texts themselves."""
    objects = [row for _, row in rows if isinstance(row, Mapping)]
    names = list(dict.fromkeys(str(name) for row in objects for name in row))
    at = _column(names, column, PROMPT_COLUMNS, "prompts", path) if objects else None
    files = _column(names, category_column, CATEGORY_COLUMNS, "categories", path, needed=False) if objects else None
    if files == at:
        files = None
    for place, row in rows:
        if isinstance(row, str):
            yield place, row, None
        elif isinstance(row, Mapping) and isinstance(row.get(at), str):
            category = row.get(files) if files is not None else None
            yield place, row[at], str(category).strip() or None if category is not None else None
        else:
            got = short(row.get(at)) if isinstance(row, Mapping) else short(row)
            raise ValueError(f"expected a prompt as text in row {place} of {shown(path)}, got {got}")


def _column(
    names: Sequence[str], given: str | None, known: Sequence[str], what: str, path: Path, needed: bool = True
) -> str | None:
    if given is not None:
        found = next((one for one in names if one == given), None) or next(
            (one for one in names if one.lower() == given.lower()), None
        )
        if found is None:
            near = did_you_mean(given, names)
            said = f"expected a column of {what} in {shown(path)}, which has {short(', '.join(names), 200)}"
            raise ValueError(f"{said}; got {short(given)}{near}")
        return found
    for name in known:
        for one in names:
            if one.strip().lower() == name:
                return one
    if not needed:
        return None
    said = f"expected a column of prompts ({', '.join(known[:4])}, ...) in {shown(path)}"
    raise ValueError(f"{said}, got {short(', '.join(names), 200)}: name it (--column)")


def _once(rows: Iterable[Row], name: str, strict: bool = False) -> tuple[list[SetPrompt], list[str]]:
    """Prompts, each once."""
    found: list[SetPrompt] = []
    first: dict[str, int] = {}
    twice: list[tuple[int, int]] = []
    for number, (place, given, category) in enumerate(rows, 1):
        text = given.strip() if isinstance(given, str) else given
        if text == "":
            raise ValueError(f"expected a prompt in row {place} of {shown(name)}, got none")
        try:
            check_prompt(text)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{error} in row {place} of {shown(name)}") from None
        if text in first:
            twice.append((first[text], place))
            if strict:
                raise ValueError(f"expected each prompt once, got {short(text)} as number {first[text]} and {place}")
            continue
        first[text] = place
        found.append(SetPrompt(text, number, category))
        if len(found) > MOST_PROMPTS:
            raise ValueError(f"expected at most {MOST_PROMPTS} prompts in {shown(name)}, got more")
    if not found:
        raise ValueError(f"expected prompts in {shown(name)}, got none")
    if not twice:
        return found, []
    places = ", ".join(f"{other} (as {one})" for one, other in twice[:5]) + (", ..." if len(twice) > 5 else "")
    return found, [f"{shown(name)}: {len(twice)} prompts stand there twice and are taken once: rows {places}"]


def _of_category(found: list[SetPrompt], category: str | None, name: str) -> list[SetPrompt]:
    if category is None:
        return found
    known = list(dict.fromkeys(one.category for one in found if one.category is not None))
    if not known:
        raise ValueError(f"expected no category of {shown(name)}, which has none, got {short(category)}")
    kept = [one for one in found if one.category is not None and one.category.lower() == category.strip().lower()]
    if not kept:
        said = f"expected a category of {shown(name)} ({short(', '.join(known), 300)})"
        raise ValueError(f"{said}, got {short(category)}{did_you_mean(category, known)}")
    return kept
