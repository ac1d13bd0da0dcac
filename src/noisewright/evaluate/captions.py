"""The own prompt of an image file: from what it says of itself, a text file beside it, or a table."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from noisewright.evaluate.folders import SIDECARS, sidecar
from noisewright.evaluate.graphs import prompt_of_graph
from noisewright.outside.reading import read_text, shown

Prompts = Callable[[Path, Mapping[str, Any]], str]
"""The prompt of one file, from its path and what it says of itself; a ValueError in one line where it has none."""

METADATA, SIDECAR = "metadata", "sidecar"
TABLES = (".csv", ".tsv")

FILE_COLUMNS = ("file_name", "filename", "file", "filepath", "file_path", "image", "image_path", "path")
PROMPT_COLUMNS = ("prompt", "caption", "text")
"""Names of columns, in any case; where a table has several of them, the first of these."""

USER_COMMENT, MODEL, EXIF = 0x9286, 0x0110, 0x8769
"""EXIF tags: ComfyUI writes its graph into the camera's model."""

NEGATIVE = re.compile(r"^\s*Negative prompt:", re.MULTILINE)
SETTINGS = re.compile(r"^\s*Steps: *\d+\s*(?:,|$)", re.MULTILINE)
INLINE = re.compile(r"\sNegative prompt:|\sSteps: *\d+, *Sampler:")


def prompt_source(given: str) -> Prompts:
    """What gives each image its own prompt.

    Args:
        given: ``metadata`` (what noisewright, A1111 and ComfyUI write into images), ``sidecar`` (a .txt or .caption
            file of the same name), or a .csv or .tsv file with a column of files, relative to its own directory, and
            one of prompts.

    Raises:
        ValueError: in one line, on something else, or a table that is none.
    """
    if given == METADATA:
        return _from_metadata
    if given == SIDECAR:
        return _from_sidecar
    if Path(given).suffix.lower() in TABLES:
        return _from_table(Path(given))
    known = f"{METADATA}, {SIDECAR} or a file {' or '.join(TABLES)}"
    raise ValueError(f"expected {known} to take prompts from, got {given!r}")


def _from_sidecar(path: Path, info: Mapping[str, Any]) -> str:
    beside = sidecar(path)
    if beside is None:
        raise ValueError(f"expected a prompt of {shown(path)} beside it ({path.stem}{SIDECARS[0]}), got none")
    return _said(read_text(beside), beside)


def _said(text: str, source: Path) -> str:
    if not text.strip():
        raise ValueError(f"expected a prompt in {shown(source)}, got an empty one")
    return text.strip()


# Tables


def _from_table(table: Path) -> Prompts:
    known = _read_table(table)

    def prompt(path: Path, info: Mapping[str, Any]) -> str:
        found = known.get(_place(path))
        if found is None:
            raise ValueError(
                f"expected a row for {shown(path)} in {shown(table)} (files are relative to its directory), got none"
            )
        if not found:
            raise ValueError(f"expected a prompt of {shown(path)} in {shown(table)}, got an empty one")
        return found

    return prompt


def _read_table(table: Path) -> dict[str, str]:
    """Prompts by the place of the file.

    Raises:
        ValueError: in one line, where the columns are not there, a row has too many or too few, or two rows disagree.
    """
    text = read_text(table, "a table of files and prompts")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(table, text), strict=True)
    found: dict[str, str] = {}
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        file, prompt = (_column(header, names, table) for names in (FILE_COLUMNS, PROMPT_COLUMNS))
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise ValueError(
                    f"expected {len(header)} cells in line {rows.line_num} of {shown(table)}, got {len(row)}: a prompt "
                    "with commas stands in quotes"
                )
            place, said = _place(table.parent / row[file].strip()), row[prompt].strip()
            if found.setdefault(place, said) != said:
                name = shown(row[file].strip())
                raise ValueError(f"expected one prompt for {name} in {shown(table)}, got two (line {rows.line_num})")
    except csv.Error as error:
        raise ValueError(f"expected a table in {shown(table)}, got line {rows.line_num}: {error}") from None
    return found


def _delimiter(table: Path, text: str) -> str:
    """A tab in a .tsv file; else what the names in the first line stand between."""
    if table.suffix.lower() == ".tsv":
        return "\t"
    first = text.lstrip().partition("\n")[0]
    return max(",;\t", key=first.count)


def _column(header: Sequence[str], names: Sequence[str], table: Path) -> int:
    for name in names:
        if header.count(name) > 1:
            raise ValueError(f"expected one column {name} in {shown(table)}, got {header.count(name)}")
        if name in header:
            return header.index(name)
    got = shown(", ".join(header))[:80] or "an empty file"
    raise ValueError(f"expected a column {', '.join(names[:-1])} or {names[-1]} in {shown(table)}, got {got}")


def _place(path: Path) -> str:
    """One name for one file, however its directory is written; accents as one sign, as they are typed."""
    whole = os.path.abspath(path)
    return unicodedata.normalize("NFC", os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole)))


# Metadata


def _from_metadata(path: Path, info: Mapping[str, Any]) -> str:
    found = prompt_in(info)
    if not found:
        got = "a graph without one unambiguous prompt" if "prompt" in info else "none"
        raise ValueError(f"expected a prompt in the metadata of {shown(path)}, got {got}")
    return found


def prompt_in(info: Mapping[str, Any]) -> str | None:
    """The prompt in an image's metadata (what :func:`~.read_image` gives besides the pixels), or None.

    In this order: our own recipe; the text that A1111 and its relatives write (PNG ``parameters``, EXIF UserComment, a
    GIF's comment); ComfyUI's graph, where all its samplers lead to one text; a text ``prompt``.
    """
    exif = _exif(info)
    graph = _text(info.get("prompt"))
    model = exif.get(MODEL)
    if isinstance(model, str) and model.startswith("prompt:"):
        graph = graph or model.removeprefix("prompt:")
    for found in (
        _of_recipe(_text(info.get("noisewright"))),
        _of_parameters(_text(info.get("parameters"))),
        _of_comment(_user_comment(exif.get(USER_COMMENT))),
        _of_comment(_text(info.get("comment"))),
        prompt_of_graph(_json(graph)),
        graph if graph and graph.strip()[:1] not in "{[" else "",
    ):
        if found and found.strip():
            return found.strip()
    return None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) if isinstance(value, str) else ""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _of_recipe(text: str) -> str:
    recipe = _json(text)
    sampler = recipe.get("sampler") if isinstance(recipe, dict) else None
    prompt = sampler.get("prompt") if isinstance(sampler, dict) else None
    return prompt if isinstance(prompt, str) else ""


def _of_parameters(text: str) -> str:
    """The prompt of A1111's text: what stands before the negative prompt and the line of settings.

    Fooocus writes JSON in its place.
    """
    found = _json(text) if text.lstrip()[:1] == "{" else None
    if isinstance(found, dict):
        return found["prompt"] if isinstance(found.get("prompt"), str) else ""
    end = NEGATIVE.search(text) or max(SETTINGS.finditer(text), key=lambda one: one.start(), default=None)
    end = end or INLINE.search(text)
    return text[: end.start()] if end else text


def _of_comment(text: str) -> str:
    """As :func:`_of_parameters` of a comment, which cameras and viewers write too: it must have the settings."""
    settings = SETTINGS.search(text) or INLINE.search(text)
    return _of_parameters(text) if settings or text.lstrip()[:1] == "{" else ""


def _exif(info: Mapping[str, Any]) -> dict[int, Any]:
    """The tags of an image, with those of its EXIF directory; none where they are damaged."""
    raw = info.get("exif")
    if not isinstance(raw, bytes):
        return {}
    try:
        exif = Image.Exif()
        exif.load(raw)
        return {**exif, **exif.get_ifd(EXIF)}
    except Exception:  # damaged tags raise anything
        return {}


def _user_comment(value: Any) -> str:
    """The text of an EXIF UserComment, which begins with 8 bytes that name its encoding."""
    if not isinstance(value, bytes):
        return _text(value)
    kind, rest = value[:8], value[8:]
    if not kind.startswith(b"UNICODE"):
        return _text(rest if kind in (b"ASCII\0\0\0", b"\0" * 8) else value).strip("\0")
    if rest.startswith((b"\xff\xfe", b"\xfe\xff")):
        return rest.decode("utf-16", "replace").strip("\0")
    # Nothing says in which order the bytes are; the settings have digits and signs whose high byte is zero.
    little = rest[1::2].count(0) > rest[::2].count(0)
    return rest.decode("utf-16-le" if little else "utf-16-be", "replace").strip("\0")
