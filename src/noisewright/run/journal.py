"""The format of a run's journal: a JSON object a line, sealed with a checksum.

A line of schema 2 ends in ``"check"``, the first 16 hex digits of the SHA-256 of all that stands before it. A line of
schema 1 has none, and is believed as far as it is JSON. A line that does not hold is left out, and whoever writes sets
it aside; a line that stands there twice counts once.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

MARK = b',"check":"'
END = b'"}'
DIGITS = 16
SEALED = 2
"""The schema from which on every line is sealed."""

SEAL = len(MARK) + DIGITS + len(END)
"""Bytes at the end of a sealed line."""


def seal(record: dict[str, Any]) -> bytes:
    """A line of the journal, with its checksum and its end.

    Raises:
        ValueError: on a number that JSON has no word for.
    """
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + MARK + _digest(body) + END + b"\n"


def holds(line: bytes, schema: int) -> bool:
    """Whether a line, without its end, is as it was written; see :func:`unseal`."""
    if _is_sealed(line):
        return line[-DIGITS - len(END) : -len(END)] == _digest(line[:-SEAL])
    return unseal(line, schema) is not None


def unseal(line: bytes, schema: int) -> dict[str, Any] | None:
    """What a line says, without its checksum; None where it does not hold.

    Args:
        line: without its end.
        schema: of the run; from 2 on every line must be sealed.
    """
    sealed = _is_sealed(line)
    if not (holds(line, schema) if sealed else schema < 2 and b'"check"' not in line):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # damaged, or nested without end
        return None
    if not isinstance(record, dict) or not isinstance(record.get("verb"), str):
        return None
    record.pop("check", None)
    return record


def split(raw: bytes) -> tuple[list[bytes], bytes]:
    """The lines of a journal without their ends, and a last line that nobody finished writing."""
    *lines, torn = raw.split(b"\n")
    return lines, torn


def _is_sealed(line: bytes) -> bool:
    return line[-SEAL : len(MARK) - SEAL] == MARK and line.endswith(END)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:DIGITS].encode()
