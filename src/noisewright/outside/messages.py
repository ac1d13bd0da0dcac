"""What stands in one-line messages: a value cut short, the nearest valid name, the first line of an error.

Imports nothing heavy, and nothing of noisewright but what makes texts harmless.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST_NAME = 100
"""Characters of a name that are compared with valid ones."""


def short(value: Any, most: int = 60) -> str:
    """A value quoted for a message, in at most ``most`` characters: never slow, and it never raises.

    Plain values look as Python writes them; of anything else it is the name of its type.
    """
    return cut(_quoted(value, most, 2), most)


def cut(text: str, most: int = 60) -> str:
    """A text in at most ``most`` characters of one line, without quotes."""
    text = "".join(one if one.isprintable() else " " for one in text[: most + 1])
    return text if len(text) <= most else text[: most - 3] + "..."


def did_you_mean(name: str, valid: Iterable[str], *, cutoff: float = 0.4) -> str:
    """``; did you mean NAME?`` with the nearest of the valid names, whatever their case; nothing where none is near.

    Args:
        name: what was got.
        valid: what there is.
        cutoff: how alike they must be, in [0, 1]: higher where there are many names.
    """
    name, valid = name[:LONGEST_NAME], list(valid)
    near = difflib.get_close_matches(name.lower(), [one.lower() for one in valid], n=1, cutoff=cutoff)
    if not near:
        return ""
    alike = [one for one in valid if one.lower() == near[0]]
    return f"; did you mean {max(alike, key=lambda one: difflib.SequenceMatcher(None, name, one).ratio())}?"


def unknown(kind: str, name: str, valid: Sequence[str]) -> str:
    """One line: what was expected, what was got, the nearest valid name."""
    return f"unknown {kind} {short(name)}: expected one of {', '.join(valid)}{did_you_mean(name, valid)}"


def first_line(error: object, most: int | None = None, *, empty: str | None = None) -> str:
    """The first line of what an error says; what comes from outside goes through :func:`~.texts.clean` besides.

    Args:
        error: an exception, which may fail to say anything.
        most: characters.
        empty: what it is where the error says nothing; by default the name of its class.
    """
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        lines = []
    found = lines[0] if lines else type(error).__name__ if empty is None else empty
    return found if most is None else cut(found, most)


def _quoted(value: Any, most: int, depth: int) -> str:
    kind = type(value)
    if value is None or kind in (bool, float):
        return repr(value)
    if kind is int:  # the digits of a huge one are refused by Python, and say nothing
        bits = value.bit_length()
        return repr(value) if bits < 200 else f"a number of {int(bits * 0.30103) + 1} digits"
    if kind in (str, bytes):
        return repr(value[:most]) + ("..." if len(value) > most else "")
    if kind in (list, tuple, set, frozenset, dict):
        marks = "[]" if kind is list else "()" if kind is tuple else "{}"
        if depth == 0 or not value:
            return marks if not value else f"{marks[0]}...{marks[1]}"
        return marks[0] + _members(value, most, depth - 1) + marks[1]
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if kind.__module__ == "numpy" and (isinstance(value, numbers.Number) or kind.__name__.startswith("bool")):
        return _quoted(value.item(), most, depth)  # type: ignore[attr-defined]
    return kind.__name__


def _members(value: Any, most: int, depth: int) -> str:
    parts = []
    for number, one in enumerate(value.items() if isinstance(value, dict) else value):
        if number == 4:
            parts.append("...")
            break
        if isinstance(value, dict):
            parts.append(f"{_quoted(one[0], most, depth)}: {_quoted(one[1], most, depth)}")
        else:
            parts.append(_quoted(one, most, depth))
    return ", ".join(parts)
