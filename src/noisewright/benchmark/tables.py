"""A benchmark's rows as tables that other programs read: CSV, and Parquet where pyarrow is installed.

``cells`` has a row a cell, ``candidates`` a row for each finished image of a cell that was run (a cell that was read
off another has its candidates there). Both have what :data:`CELL_COLUMNS` and :data:`CANDIDATE_COLUMNS` list.

In CSV a text that a spreadsheet would take for a formula (it begins with ``=``, ``+``, ``-``, ``@``, a tab, a carriage
return or the wide forms of these) and that is no number, and one that begins with an apostrophe, has one apostrophe
more in front: prompts come from other people's files. Taking one apostrophe off each text that begins with one gives
what was there. Parquet has texts as they are.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from noisewright.benchmark.store import Results
from noisewright.outside.files import replacing

ROWS_AT_ONCE = 10_000
"""Of a row group; more are never held."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
MISSING_PYARROW = "no .parquet files are written without pyarrow: pip install 'noisewright[data]'"


@dataclass(frozen=True)
class Column:
    """One column, or one for each axis or score.

    Attributes:
        name: its header; ``AXIS`` and ``SCORE`` in it stand for the names of these.
        kind: ``text``, ``whole`` (64 bits), ``real`` (64 bits) or ``flag``.
        text: what it holds.
        of: its value of a row; of one for each axis or score, by that name.
    """

    name: str
    kind: str
    text: str
    of: Callable[[Any, str], Any]


def _same(name: str) -> Callable[[Any, str], Any]:
    return lambda row, _: row.get(name)


def _of(first: str, second: str) -> Callable[[Any, str], Any]:
    return lambda row, _: row.get(first, {}).get(second)


def _score(which: str) -> Callable[[Any, str], Any]:
    return lambda row, name: row.get(which, {}).get("scores", {}).get(name)


def _joined(name: str) -> Callable[[Any, str], Any]:
    return lambda row, _: "; ".join(row[name]) if name in row else None


CELL_COLUMNS = (
    Column("cell", "text", "digest of the cell's request; names it in `candidates` too", _same("cell")),
    Column("axis:AXIS", "text", "label of the point along each axis", lambda row, name: row["coordinates"].get(name)),
    Column("prompt", "text", "the prompt", _same("prompt")),
    Column("number", "whole", "the prompt's place in its set, from 1", _same("number")),
    Column("category", "text", "what the set files the prompt under; empty without", _same("category")),
    Column("seed", "whole", "the run's first seed", _same("seed")),
    Column("repeat", "whole", "which of the prompt's seeds, from 0", _same("repeat")),
    Column("status", "text", "`done` or `failed`, which has nothing after `error`", _same("status")),
    Column("error", "text", "one line, of a failed cell", _same("error")),
    Column("run", "text", "the run directory, relative to the benchmark's", _same("run")),
    Column("shared", "flag", "whether it was read off the run of another cell", _same("shared")),
    Column("stopped", "text", "why the run stopped", _same("stopped")),
    Column("verifiers", "text", "what the search optimised, joined with `; `", _joined("verifiers")),
    Column("judges", "text", "what it never saw, joined with `; `", _joined("judges")),
    Column("images", "whole", "images that were made", _same("images")),
    Column("nfe", "whole", "guided model evaluations", _same("nfe")),
    Column("forwards", "whole", "network passes", _same("forwards")),
    Column("seconds_encode", "real", "seconds that encoding prompts took", _of("seconds", "encode")),
    Column("seconds_denoise", "real", "seconds that denoising took", _of("seconds", "denoise")),
    Column("seconds_decode", "real", "seconds that decoding took", _of("seconds", "decode")),
    Column("seconds_verify", "real", "seconds that verifiers took", _of("seconds", "verify")),
    Column("seconds_total", "real", "seconds of the run, without loading", _of("seconds", "total")),
    Column("best_id", "text", "id of the best candidate", _of("best", "id")),
    Column("best_seed", "whole", "the seed that makes it; empty where no seed does", _of("best", "seed")),
    Column("best_file", "text", "its PNG, relative to the benchmark's directory", _of("best", "file")),
    Column("best:SCORE", "real", "each score of it; empty without a number", _score("best")),
    Column("baseline_id", "text", "id of the plain image", _of("baseline", "id")),
    Column("baseline_seed", "whole", "its seed", _of("baseline", "seed")),
    Column("baseline_file", "text", "its PNG", _of("baseline", "file")),
    Column("baseline:SCORE", "real", "each score of it", _score("baseline")),
    Column("diversity", "real", "mean distance of the eight best candidates' images, in [0, 1]", _same("diversity")),
    Column("warnings", "text", "what the run warned of, joined with `; `", _joined("warnings")),
)  # fmt: skip
"""Of ``cells.csv`` and ``cells.parquet``."""

CANDIDATE_COLUMNS = (
    Column("cell", "text", "the cell that made it", _same("cell")),
    Column("axis:AXIS", "text", "that cell's label along each axis", lambda row, name: row["coordinates"].get(name)),
    Column("number", "whole", "its prompt's place in its set, from 1", _same("number")),
    Column("repeat", "whole", "which of the prompt's seeds, from 0", _same("repeat")),
    Column("id", "text", "the candidate", _same("id")),
    Column("seed", "whole", "the seed that makes it; empty where no seed does", _same("seed")),
    Column("order", "whole", "in which the run scored them, from 0", _same("order")),
    Column("steps", "whole", "steps that it was denoised with", _same("steps")),
    Column("draft", "text", "the draft that it is; empty of an image in full", _same("draft")),
    Column("nfe", "whole", "spent by the run when it was scored", _same("nfe")),
    Column("seconds", "real", "elapsed by then", _same("seconds")),
    Column("score:SCORE", "real", "each score; empty without a number", lambda row, name: row["scores"].get(name)),
    Column("file", "text", "its PNG, relative to the benchmark's directory", _same("file")),
)
"""Of ``candidates.csv`` and ``candidates.parquet``."""


@dataclass(frozen=True)
class Written:
    """The tables.

    Attributes:
        files: that were written.
        notes: a line each on what was not.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def write_tables(results: Results) -> Written:
    """Write ``cells`` and ``candidates`` into the benchmark's directory, each as CSV and as Parquet.

    Candidates go through in groups of :data:`ROWS_AT_ONCE`. Without pyarrow there is no Parquet, and what an earlier
    call wrote is taken away, since it would say something else.

    Raises:
        OSError: where a file cannot be written.
    """
    axes, scores = [axis.name for axis in results.spec.axes], _score_names(results.rows)
    cells = {row["cell"]: row for row in results.done}
    candidates = ({**_where(cells[row["cell"]]), **row} for row in results.candidates() if row["cell"] in cells)
    parquet = _parquet()
    files = [
        *_write(results.root / "cells", CELL_COLUMNS, axes, scores, results.rows, parquet),
        *_write(results.root / "candidates", CANDIDATE_COLUMNS, axes, scores, candidates, parquet),
    ]
    if parquet is not None:
        return Written(tuple(files))
    for name in ("cells", "candidates"):
        (results.root / f"{name}.parquet").unlink(missing_ok=True)
    return Written(tuple(files), (MISSING_PYARROW,))


def headers(columns: Sequence[Column], axes: Sequence[str], scores: Sequence[str]) -> list[tuple[str, Column, str]]:
    """The header of each column that a table has, its column, and the axis or score that it is of."""
    found = []
    for one in columns:
        first, _, each = one.name.partition(":")
        names = axes if each == "AXIS" else scores if each == "SCORE" else [""]
        found += [(f"{first}:{name}" if each else first, one, name) for name in names]
    return found


def described(columns: Sequence[Column]) -> str:
    """The columns as a table in Markdown."""
    kinds = {"text": "text", "whole": "whole number", "real": "number", "flag": "true or false"}
    lines = ["| column | kind | what |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{one.name}` | {kinds[one.kind]} | {one.text} |" for one in columns)])


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula; see the module."""
    return f"'{text}" if text.startswith("'") or (text.startswith(FORMULA) and not _is_number(text)) else text


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isprintable()
    except ValueError:
        return False


def _score_names(rows: Iterable[Any]) -> list[str]:
    found: dict[str, None] = {}
    for row in rows:
        for names in (row.get("verifiers", ()), row.get("judges", ())):
            found.update(dict.fromkeys(names))
    for row in rows:
        for which in ("best", "baseline"):
            found.update(dict.fromkeys(row.get(which, {}).get("scores", ())))
    return list(found)


def _where(cell: Any) -> dict[str, Any]:
    return {name: cell[name] for name in ("coordinates", "number", "repeat")}


def _parquet() -> Any:
    """pyarrow, or None."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    return pyarrow


def _write(
    path: Path, columns: Sequence[Column], axes: Sequence[str], scores: Sequence[str], rows: Iterable[Any], parquet: Any
) -> list[Path]:
    """The same rows as CSV and as Parquet, in one pass."""
    named = headers(columns, axes, scores)
    files = [path.with_name(f"{path.name}.csv")]
    if parquet is not None:
        files.append(path.with_name(f"{path.name}.parquet"))
    with ExitStack() as stack:
        opened = [stack.enter_context(replacing(file, sync=False)) for file in files]
        as_csv = _csv(opened[0], [header for header, _, _ in named])
        as_parquet = None
        if parquet is not None:
            schema = parquet.schema([(header, _type(parquet, one.kind)) for header, one, _ in named])
            as_parquet = stack.enter_context(parquet.parquet.ParquetWriter(opened[1], schema))
        for group in _groups(rows):
            values = [[_value(one.kind, one.of(row, name)) for row in group] for _, one, name in named]
            as_csv(values)
            if as_parquet is not None:
                arrays = [parquet.array(of, type=field.type) for of, field in zip(values, schema, strict=True)]
                as_parquet.write_table(parquet.Table.from_arrays(arrays, schema=schema))
    return files


def _groups(rows: Iterable[Any]) -> Iterator[list[Any]]:
    waiting = iter(rows)
    while group := list(islice(waiting, ROWS_AT_ONCE)):
        yield group


def _value(kind: str, value: Any) -> Any:
    """As its kind: a text that any file can hold, no NaN."""
    if value is None:
        return None
    if kind == "text":
        plain = str(value).replace("\0", "\ufffd")
        return plain if plain.isascii() else plain.encode("utf-8", "backslashreplace").decode("utf-8")
    return value if kind != "real" else float(value) if math.isfinite(value) else None


def _csv(file: BinaryIO, header: Sequence[str]) -> Callable[[Sequence[Sequence[Any]]], None]:
    """What writes columns of values; the header is written at once."""

    def lines(rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        file.write(text.getvalue().encode("utf-8"))

    def shown(value: Any) -> Any:
        if isinstance(value, bool):
            return "true" if value else "false"
        return harmless(value) if isinstance(value, str) else value

    lines([[harmless(one) for one in header]])
    return lambda columns: lines([shown(value) for value in row] for row in zip(*columns, strict=True))


def _type(parquet: Any, kind: str) -> Any:
    types: Mapping[str, Callable[[], Any]] = {
        "text": parquet.string, "whole": parquet.int64, "real": parquet.float64, "flag": parquet.bool_,
    }  # fmt: skip
    return types[kind]()
