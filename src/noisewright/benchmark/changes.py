"""What of a benchmark may be another when it goes on: the grid may grow, and what only the report says may change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright.outside.messages import cut

MAY_CHANGE = ("title", "notes", "reference", "across", "prompt_set")
"""Of a spec, by name: no cell depends on them."""


def check_grown(root: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with another benchmark: all that was asked for before must be asked for still.

    Args:
        root: the directory, for the message.
        before, now: specs as JSON.

    Raises:
        ValueError: in one line, naming the first that differs.
    """
    for key in sorted({*before, *now} - {"axes", "prompts", "seeds", *MAY_CHANGE}):
        if isinstance(before.get(key), Mapping) and isinstance(now.get(key), Mapping):
            for name in sorted({*before[key], *now[key]}):
                _check(root, f"{key}.{name}", before[key].get(name), now[key].get(name))
        _check(root, key, before.get(key), now.get(key))
    if now["seeds"] < before["seeds"]:
        _check(root, "seeds", before["seeds"], now["seeds"])
    _check(root, "axes", [one["name"] for one in before["axes"]], [one["name"] for one in now["axes"]])
    for axis, other in zip(before["axes"], now["axes"], strict=True):
        _check_among(root, f"a value of axis {axis['name']}", axis["values"], other["values"])
    _check_among(root, "a prompt", before["prompts"], now["prompts"])


def _check(root: Path, key: str, before: Any, now: Any) -> None:
    if before != now:
        raise ValueError(f"{root} holds another benchmark: expected {key} {_shown(before)}, got {_shown(now)}")


def _check_among(root: Path, what: str, before: Sequence[Any], now: Sequence[Any]) -> None:
    """Each of ``before`` stands among those of ``now``."""
    there = {json.dumps(one, sort_keys=True) for one in now}
    for one in before:
        if json.dumps(one, sort_keys=True) not in there:
            raise ValueError(f"{root} holds another benchmark: expected {_shown(one)} as {what}, got none such")


def _shown(value: Any) -> str:
    return cut(json.dumps(value))
