"""What a person says of a run's candidates: pins, stars, rejections, and which of two is better.

They stand in ``choices.jsonl`` in the run's directory, a line each, and are never taken out: what was said last counts.
No file of the run is changed or removed by them.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from noisewright.benchmark.votes import MOST_ITEMS, Strength, Vote, agreement, strengths
from noisewright.outside.inside import inside
from noisewright.outside.reading import read_bytes
from noisewright.run.directory import writable
from noisewright.run.ledger import ID
from noisewright.schemas.reading import parse_json

CHOICES, OPINIONS = "choices.jsonl", "opinions.jsonl"
MARKS = ("pin", "star", "reject")
SAID = ("a", "b", "tie")
MOST_BYTES = 2**25
LONGEST_LINE = 2**22
RESAMPLES = 200
"""Draws for the intervals of strengths: they are made anew after each choice."""

_writing = threading.Lock()


@dataclass(frozen=True)
class Choices:
    """What was said so far.

    Attributes:
        marks: of each candidate that has any, those of :data:`MARKS` that hold.
        votes: the pairs, in order.
        damaged: lines that could not be read.
    """

    marks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    votes: tuple[Vote, ...] = ()
    damaged: int = 0


def read_choices(root: Path) -> Choices:
    """The choices of a run; none where nobody made any.

    Raises:
        ValueError: in one line, where the file is none, or lies elsewhere.
    """
    marks: dict[str, dict[str, bool]] = {}
    votes, damaged = [], 0
    for line in _lines(root, CHOICES):
        if line is None:
            damaged += 1
        elif "choice" in line:
            one, other = line.get("a"), line.get("b")
            if not (_is_id(one) and _is_id(other) and one != other and line["choice"] in SAID):
                damaged += 1
                continue
            first, second = (other, one) if line["choice"] == "b" else (one, other)
            votes.append(Vote(str(first), str(second), tie=line["choice"] == "tie"))
        elif _is_id(line.get("id")) and line.get("mark") in MARKS and isinstance(line.get("on"), bool):
            marks.setdefault(str(line["id"]), {})[line["mark"]] = line["on"]
        else:
            damaged += 1
    held = {key: tuple(name for name in MARKS if one.get(name)) for key, one in marks.items()}
    return Choices({key: names for key, names in held.items() if names}, tuple(votes), damaged)


def mark(root: Path, key: str, name: str, on: bool) -> None:
    """Pin, star or reject a candidate, or take that back.

    Raises:
        ValueError: in one line.
    """
    if name not in MARKS:
        raise ValueError(f"expected one of {', '.join(MARKS)}, got {name[:40]!r}")
    _append(root, CHOICES, {"id": key, "mark": name, "on": on})


def vote(root: Path, one: str, other: str, choice: str) -> None:
    """Say which of two candidates is better.

    Args:
        root: the run's directory.
        one: the first's id.
        other: the second's.
        choice: ``a`` (the first), ``b`` or ``tie``.

    Raises:
        ValueError: in one line.
    """
    if choice not in SAID:
        raise ValueError(f"expected a, b or tie, got {choice[:40]!r}")
    if one == other:
        raise ValueError("expected two candidates, got one twice")
    _append(root, CHOICES, {"a": one, "b": other, "choice": choice})


def add_opinion(root: Path, verifier: str, fingerprint: str, scores: Mapping[str, float | None]) -> None:
    """Keep what a verifier that the run did not have said of its candidates.

    Raises:
        ValueError: in one line.
    """
    _append(root, OPINIONS, {"verifier": verifier, "fingerprint": fingerprint, "scores": dict(scores)})


def read_opinions(root: Path) -> dict[str, dict[str, float]]:
    """The scores of verifiers that the run did not have, by name and candidate; the last line on one counts.

    Raises:
        ValueError: as :func:`read_choices`.
    """
    found: dict[str, dict[str, float]] = {}
    for line in _lines(root, OPINIONS):
        if line is None or not isinstance(line.get("verifier"), str) or not isinstance(line.get("scores"), dict):
            continue
        scores = {key: float(value) for key, value in line["scores"].items() if _is_id(key) and _is_number(value)}
        found.setdefault(line["verifier"][:500], {}).update(scores)
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _lines(root: Path, name: str) -> list[dict[str, Any] | None]:
    """The lines of a file that hold an object, and None for one that does not; a torn last one is left out."""
    place = inside(root, name)
    if not os.path.lexists(place):
        return []
    found: list[dict[str, Any] | None] = []
    for number, raw in enumerate(read_bytes(place, name, most=MOST_BYTES).split(b"\n")[:-1], start=1):
        try:
            line = parse_json(raw, f"line {number} of {place}", most=LONGEST_LINE)
        except ValueError:
            line = None
        found.append(line if isinstance(line, dict) else None)
    return found


def _append(root: Path, name: str, line: Mapping[str, Any]) -> None:
    """Write a line at the end, on the disk when this returns; through no link."""
    place = inside(root, name)
    text = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **line}
    data = json.dumps(text, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with _writing, writable(root):
        handle = os.open(place, flags, 0o666)
        try:
            size = os.fstat(handle).st_size
            if size + len(data) > MOST_BYTES:
                raise ValueError(f"expected {name} of at most {MOST_BYTES} bytes, got more")
            if size and os.pread(handle, 1, size - 1) != b"\n":  # whoever wrote it before was killed
                data = b"\n" + data
            if os.write(handle, data) < len(data):  # the rest found no place; whoever writes next begins a line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)


# What follows from choices


def human_scores(votes: Sequence[Vote]) -> list[Strength]:
    """Strengths of the candidates that were compared (Bradley and Terry), strongest first."""
    return list(_strengths(tuple(votes[-MOST_ITEMS:])))


@lru_cache(32)
def _strengths(votes: tuple[Vote, ...]) -> tuple[Strength, ...]:
    """The same, made once for all pages that look."""
    return tuple(strengths(votes, resamples=RESAMPLES))


def agreements(votes: Sequence[Vote], columns: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """How often each verifier's order of two candidates is the person's, the most often first.

    Args:
        votes: the person's.
        columns: scores by verifier and candidate.
    """
    found = []
    for name, scores in columns.items():
        none = float("nan")
        one = agreement([(scores.get(v.winner, none), scores.get(v.loser, none), v.tie) for v in votes])
        if one.choices:
            found.append({"name": name, "rate": one.rate, "low": one.low, "high": one.high, "choices": one.choices})
    return sorted(found, key=lambda row: (-row["rate"], row["name"]))


def next_pair(
    pool: Sequence[str], votes: Sequence[Vote], salt: int, skipped: Sequence[Sequence[str]] = ()
) -> tuple[str, str] | None:
    """Two candidates to be compared: those that were compared the least, and of these the closest in strength.

    Args:
        pool: the candidates that come into question, best first.
        votes: so far.
        salt: any number: which of both stands on the left hangs on it.
        skipped: pairs that come after all others.

    Returns:
        The left and the right one, or None where there are no two.
    """
    if len(pool) < 2:
        return None
    seen = dict.fromkeys(pool, 0)
    met: dict[frozenset[str], int] = {}
    for one in votes:
        met[frozenset((one.winner, one.loser))] = met.get(frozenset((one.winner, one.loser)), 0) + 1
        for key in (one.winner, one.loser):
            seen[key] = seen.get(key, 0) + 1
    values = {one.item: one.value for one in strengths(votes[-MOST_ITEMS:], resamples=0)}
    place = {key: number for number, key in enumerate(pool)}
    pairs = ((a, b) for number, a in enumerate(pool) for b in pool[number + 1 :])

    later = Counter(frozenset(pair) for pair in skipped)

    def need(pair: tuple[str, str]) -> tuple[float, ...]:
        a, b = pair
        apart = abs(values.get(a, 0.0) - values.get(b, 0.0))
        return later[frozenset(pair)], met.get(frozenset(pair), 0), seen[a] + seen[b], apart, place[a] + place[b]

    left, right = min(pairs, key=need)
    turned = zlib.crc32(f"{left}{right}{salt}".encode()) & 1
    return (right, left) if turned else (left, right)
