"""Bytes to JSON within bounds. Imports nothing heavy."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noisewright.outside.reading import read_bytes

MOST_BYTES = 2**24
"""Of a JSON file or a recipe. A recipe of ten thousand ancestors takes two megabytes."""

MOST_DEPTH = 32
MOST_CONTAINERS = 500_000
"""Objects and lists in one JSON text, each of which takes far more memory than its two characters."""


def is_file(path: str | Path) -> bool:
    """As ``Path.is_file``, and False for what can be no path: too long, with NUL, where one may not look."""
    return _is(path, stat.S_ISREG)


def is_directory(path: str | Path) -> bool:
    """As ``Path.is_dir``, and False for what can be no path."""
    return _is(path, stat.S_ISDIR)


def exists(path: str | Path) -> bool:
    """As ``Path.exists``, and False for what can be no path."""
    return _is(path, lambda mode: True)


def _is(path: str | Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_file(path: str | Path, what: str, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file; pipes and devices, which may never end, are not waited for.

    Args:
        path: the file.
        what: what was expected, for messages: ``a run directory (with run.json)``.
        most: bytes.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: in one line, where it cannot be read, is no regular file, or is larger.
    """
    if "\0" not in os.fspath(path) and not exists(path):
        raise FileNotFoundError(f"expected {what}, got {path}, which does not exist")
    return read_bytes(path, what, most=most)


def most_containers(most: int) -> int:
    """How many objects and lists a JSON text of so many bytes at most may have."""
    return MOST_CONTAINERS * max(most, MOST_BYTES) // MOST_BYTES


def parse_json(data: bytes | str, where: str, *, most: int = MOST_BYTES) -> Any:
    """JSON within bounds. NaN and infinities pass, for the schema to name the key that has one.

    Args:
        data: UTF-8, with or without a byte order mark.
        where: what it was read from, for messages.
        most: bytes.

    Raises:
        ValueError: in one line, on what is no JSON, is too large or too deep, or holds characters that no text has.
    """
    if len(data) > most:
        raise ValueError(f"expected JSON of at most {most} bytes in {where}, got {len(data)}")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        if text.count("[") + text.count("{") > (containers := most_containers(most)):
            raise ValueError(f"expected JSON of at most {containers} objects and lists in {where}, got more")
        found = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"expected JSON in {where}, got a damaged file") from None
    except RecursionError:
        raise ValueError(f"expected JSON at most {MOST_DEPTH} deep in {where}, got deeper") from None
    except ValueError as error:
        if str(error).startswith("expected"):
            raise
        raise ValueError(f"expected JSON in {where}, got a number of too many digits") from None
    _check_depth(found, where)
    if "\\ud" in text.lower():
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"expected JSON in {where}, got a damaged file: half a surrogate pair") from None
    return found


def _check_depth(value: Any, where: str) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MOST_DEPTH):
        members = (one for held in level for one in (held.values() if isinstance(held, dict) else held))
        level = [one for one in members if isinstance(one, (dict, list))]
        if not level:
            return
    raise ValueError(f"expected JSON at most {MOST_DEPTH} deep in {where}, got deeper")


def read_json(path: str | Path, what: str, *, most: int = MOST_BYTES) -> Any:
    """The JSON of a file of at most ``most`` bytes; see :func:`read_file` and :func:`parse_json`.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: in one line.
    """
    return parse_json(read_file(path, what, most), str(path), most=most)
