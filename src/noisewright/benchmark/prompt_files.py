"""Files of prompts, row by row: text, CSV, TSV, JSON Lines and JSON, by the ending of their names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from noisewright.outside.bounds import LONGEST_PROMPT, MOST_PROMPTS
from noisewright.outside.messages import did_you_mean, short
from noisewright.outside.reading import MOST_TEXT, read_text, shown
from noisewright.schemas.reading import parse_json

PROMPT_COLUMNS = ("prompt", "prompts", "text", "caption", "captions", "sentence", "description")
CATEGORY_COLUMNS = ("category", "tag", "kind", "type", "challenge", "class")
"""Columns that are recognised, the first first, whatever their case."""

MOST_COLUMNS = 1000
TABLES = {".csv": ",", ".tsv": "\t"}

Row = tuple[str, str, str | None]
"""Where it stands (``line 3``, ``entry 2``), prompt, category."""

Cells = tuple[str, Any]
"""Where a row stands, and what it holds: an object, or the prompt itself."""


def read_rows(path: Path, column: str | None, category_column: str | None) -> Iterable[Row]:
    """The rows of a file.

    Args:
        path: the file.
        column: where the prompts are, in a table; by default it is recognised.
        category_column: the same of categories.

    Raises:
        ValueError: in one line, with the file's line where it is about one.
    """
    text = read_text(path, "a file of prompts", most=MOST_TEXT)
    if not text.strip():
        raise ValueError(f"expected prompts in {shown(path)}, got an empty file")
    ending = path.suffix.lower()
    if ending in TABLES:
        return _of_table(_table(text, TABLES[ending], path), path, column, category_column)
    if ending in (".jsonl", ".ndjson"):
        return _of_table(_json_lines(text, path), path, column, category_column)
    if ending == ".json":
        return _of_table(_json(text, path), path, column, category_column)
    for name, given in (("column", column), ("category_column", category_column)):
        if given is not None:
            raise ValueError(f"expected {name} with a table, got it with {shown(path)}, which has a prompt a line")
    return _lines(text)


def _lines(text: str) -> Iterable[Row]:
    """Text, a prompt a line; where every line has a tab, what stands before the first."""
    lines = [(f"line {place}", line.strip("\n ")) for place, line in enumerate(text.split("\n"), 1)]
    kept = [(place, line) for place, line in lines if line.strip() and not line.startswith("#")]
    cut = all("\t" in line.strip() for _, line in kept)
    return [(place, _escaped(line.strip().partition("\t")[0] if cut else line), None) for place, line in kept]


def _escaped(line: str) -> str:
    """A prompt that begins with ``#`` is written with a backslash before it."""
    return line[1:] if line.startswith("\\#") else line


def _table(text: str, separator: str, path: Path) -> list[Cells]:
    """The rows of CSV, whose values may be in quotes, or TSV, whose quotes are characters as others."""
    quoting: Any = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, strict=separator == ",")
    rows: list[Cells] = []
    head: list[str] = []
    begin = 1
    try:
        for cells in reader:
            line, begin = begin, reader.line_num + 1
            if not any(one.strip() for one in cells):
                continue
            if not head:
                head = _head(cells, path)
                continue
            few = len(cells) < len(head) and separator == ","
            if len(cells) > len(head) or few:
                raise ValueError(f"expected {len(head)} columns in {shown(path)}, got {len(cells)} in line {line}")
            rows.append((f"line {line}", dict(zip_longest(head, cells))))
            if len(rows) > 2 * MOST_PROMPTS:
                raise ValueError(f"expected at most {MOST_PROMPTS} prompts in {shown(path)}, got more")
    except csv.Error as error:
        raise ValueError(f"expected a table in {shown(path)}, got {error} in line {begin}") from None
    if not rows:
        raise ValueError(f"expected a head and rows in {shown(path)}, got only a head")
    return rows


def _head(cells: Sequence[str], path: Path) -> list[str]:
    head = [one.strip() for one in cells]
    if len(head) > MOST_COLUMNS:
        raise ValueError(f"expected at most {MOST_COLUMNS} columns in {shown(path)}, got {len(head)}")
    if len(set(head)) < len(head):
        twice = next(one for one in head if head.count(one) > 1)
        raise ValueError(f"expected each column once in {shown(path)}, got {short(twice)} twice")
    return head


def _json_lines(text: str, path: Path) -> list[Cells]:
    lines = [(f"line {place}", line) for place, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 2 * MOST_PROMPTS:
        raise ValueError(f"expected at most {MOST_PROMPTS} prompts in {shown(path)}, got more")
    return [(place, parse_json(line, f"{place} of {shown(path)}")) for place, line in lines]


def _json(text: str, path: Path) -> list[Cells]:
    """A list; or an object that holds one, or several, whose names are categories then."""
    found = parse_json(text, shown(path))
    if isinstance(found, Mapping):
        lists = {str(key): one for key, one in found.items() if isinstance(one, list)}
        if not lists:
            raise ValueError(f"expected a list of prompts in {shown(path)}, got an object without one")
        if len(lists) > 1:
            return [cells for key, one in lists.items() for cells in _named(one, key, path)]
        found = next(iter(lists.values()))
    if not isinstance(found, list):
        raise ValueError(f"expected a list of prompts in {shown(path)}, got {short(found)}")
    return [(f"entry {place}", one) for place, one in enumerate(found, 1)]


def _named(some: Sequence[Any], key: str, path: Path) -> Iterator[Cells]:
    for place, one in enumerate(some, 1):
        if not isinstance(one, str):
            what = "objects in one list, or lists of texts by category"
            raise ValueError(f"expected {what} in {shown(path)}, got {short(one)} in {short(key)}")
        yield f"entry {place} of {short(key)}", {"prompt": one, "category": key}


def _of_table(
    rows: Sequence[Cells], path: Path, column: str | None, category_column: str | None
) -> Iterable[Row]:
    """Rows that are objects, or texts themselves."""
    names = list(dict.fromkeys(str(name) for _, row in rows if isinstance(row, Mapping) for name in row))
    for key, given in (("column", column), ("category_column", category_column)):
        if given is not None and not names:
            raise ValueError(f"expected {key} with a table, got it with {shown(path)}, a list of texts")
    at = _column(names, column, PROMPT_COLUMNS, "column", path) if names else None
    files = _column(names, category_column, CATEGORY_COLUMNS, "category_column", path) if names else None
    found: list[Row] = []
    for place, row in rows:
        prompt = row.get(at) if isinstance(row, Mapping) else row
        if not isinstance(prompt, str):
            what = f"expected a prompt as text in {place} of {shown(path)}"
            raise ValueError(f"{what}, got {'none' if prompt is None else short(prompt)}")
        category = row.get(files) if isinstance(row, Mapping) and files is not None and files != at else None
        found.append((place, prompt, _category(category)))
    return found


def _category(given: Any) -> str | None:
    """A category as one line; what is no plain value is none."""
    if not isinstance(given, (str, int)) or isinstance(given, bool):
        return None
    return " ".join("".join(one if one.isprintable() else " " for one in str(given)[:LONGEST_PROMPT]).split()) or None


def _column(names: Sequence[str], given: str | None, known: Sequence[str], key: str, path: Path) -> str | None:
    """The column of a name, or one that is recognised; None where there need not be one.

    Raises:
        ValueError: in one line, saying what there is.
    """
    there = short(", ".join(names), 200)[1:-1]
    if given is not None:
        alike = [one for one in names if one.strip().lower() == given.strip().lower()]
        if not alike:
            said = f"expected {key} of {shown(path)} as one of {there}"
            raise ValueError(f"{said}; got {short(given)}{did_you_mean(given, names)}")
        return given if given in alike else alike[0]
    for name in known:
        for one in names:
            if one.strip().lower() == name:
                return one
    if key != "column":
        return None
    said = f"expected a column of prompts ({', '.join(known[:4])}, ...) in {shown(path)}"
    raise ValueError(f"{said}, got {there}: name the right one as column")
