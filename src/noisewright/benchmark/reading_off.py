"""The journal of a shorter run with other verifiers, as it would have been written: a cell read off another's run.

Of the lines of the long run those that matter are kept, cut to the images of the short one; what they cost is what
these images cost. One reducer adds both up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from noisewright.run.ledger import Ledger

READABLE = ("finish", "score", "judge", "shrink")
"""What stands in the journal of a run that can be read off; one that was interrupted may hold more."""


@dataclass
class Opinions:
    """What one verifier said of the images of a run.

    Attributes:
        scores: by id.
        seconds: that each took, by id.
    """

    scores: dict[str, float | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, ids: Sequence[str], scores: Sequence[float | None], seconds: float) -> None:
        """Of a micro-batch."""
        self.scores.update(zip(ids, scores, strict=True))
        self.seconds.update(dict.fromkeys(ids, seconds / len(ids)))


def opinions_in(records: Sequence[Mapping[str, Any]], name: str) -> Opinions:
    """What the only verifier of a run said, and how long it took."""
    found = Opinions()
    for record in records:
        if record["verb"] == "score":
            found.add(record["ids"], record["scores"][name], record.get("seconds", {}).get("verify", 0.0))
    return found


def shorter(
    records: Sequence[Mapping[str, Any]], ids: Sequence[str], opinions: Mapping[str, Opinions] | None = None
) -> Ledger:
    """The sum of a run's lines up to some of its images.

    Args:
        records: of the whole run, in order, all of them among :data:`READABLE`.
        ids: of the images, in the order of their scores: the first so many of the run.
        opinions: what the verifiers said, by name; by default what those of the run itself said.
    """
    ledger = Ledger()
    for record in _lines(records, frozenset(ids), opinions):
        ledger.apply(record)
    return ledger


def _lines(
    records: Sequence[Mapping[str, Any]], wanted: frozenset[str], opinions: Mapping[str, Opinions] | None
) -> Iterator[dict[str, Any]]:
    left, before, elapsed = set(wanted), 0.0, 0.0
    for record in records:
        if not left:
            return
        gap = max(0.0, record.get("elapsed", before) - before)
        before += gap
        if record["verb"] == "shrink":
            elapsed += gap
            yield {**record, "elapsed": elapsed}
            continue
        places = [place for place, key in enumerate(record["ids"]) if key in wanted]
        if record["verb"] == "judge" or not places:
            continue
        share = len(places) / len(record["ids"])
        if record["verb"] == "finish":
            line = _finished(record, places, share)
            at_once = record.get("seconds", {}).get("encode", 0.0)  # the prompt is encoded once, for however many
            elapsed += min(gap, at_once) + share * max(0.0, gap - at_once)
        else:
            line, took = _scored(record, places, share, opinions)
            elapsed += share * max(0.0, gap - record.get("seconds", {}).get("verify", 0.0)) + took
            left.difference_update(line["ids"])
        yield {**line, "elapsed": round(elapsed, 4)}


def _finished(record: Mapping[str, Any], places: Sequence[int], share: float) -> dict[str, Any]:
    line = {**record, **{name: [record[name][k] for k in places] for name in ("ids", "seeds", "files", "pixels")}}
    if record.get("digests"):
        line["digests"] = [record["digests"][k] for k in places]
    if record.get("broken"):
        line["broken"] = {key: why for key, why in record["broken"].items() if key in line["ids"]}
    for name in ("nfe", "forwards", "decodes"):
        line[name] = round(record.get(name, 0) * share)
    seconds = record.get("seconds", {})
    line["seconds"] = {name: value if name == "encode" else value * share for name, value in seconds.items()}
    return line


def _scored(
    record: Mapping[str, Any], places: Sequence[int], share: float, opinions: Mapping[str, Opinions] | None
) -> tuple[dict[str, Any], float]:
    """The line, and how long the verifiers took."""
    ids = [record["ids"][k] for k in places]
    if opinions is None:
        scores: dict[str, Any] = {name: [column[k] for k in places] for name, column in record["scores"].items()}
        took = record.get("seconds", {}).get("verify", 0.0) * share
    else:
        scores = {name: [one.scores[key] for key in ids] for name, one in opinions.items()}
        took = sum(one.seconds[key] for one in opinions.values() for key in ids)
    return {"verb": "score", "ids": ids, "scores": scores, "seconds": {"verify": took}}, took
