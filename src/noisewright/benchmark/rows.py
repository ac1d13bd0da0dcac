"""What is kept of a cell and of its candidates: rows, whose columns are listed here once."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class ShownCandidate(TypedDict):
    """A candidate of a cell's row."""

    id: str
    seed: int | None
    scores: dict[str, float | None]
    """By verifier and judge name; None where there is no number."""
    file: str
    """Its PNG, relative to the benchmark's directory, with ``/``."""


class CellRow(TypedDict):
    """A line of ``rows.jsonl``: what came of a cell. A failed one has ``error`` and none of what follows ``status``."""

    cell: str
    """The digest of its request."""
    coordinates: dict[str, str]
    """Label by axis."""
    prompt: str
    number: int
    """The prompt's place in its set, from 1."""
    category: str | None
    seed: int
    repeat: int
    status: str
    """``done`` or ``failed``."""
    error: NotRequired[str]
    run: NotRequired[str]
    """The run directory, relative to the benchmark's."""
    shared: NotRequired[bool]
    """Whether it was read off the run of another cell, which did the same work and more (see docs/benchmark.md)."""
    images: NotRequired[int]
    nfe: NotRequired[int]
    forwards: NotRequired[int]
    seconds: NotRequired[dict[str, float]]
    """``encode, denoise, decode, verify, total``: as a run of its own would take, as far as that was timed."""
    stopped: NotRequired[str]
    verifiers: NotRequired[list[str]]
    judges: NotRequired[list[str]]
    best: NotRequired[ShownCandidate]
    baseline: NotRequired[ShownCandidate]
    curve: NotRequired[list[list[float | None]]]
    """Best so far, a point where it rose: images, NFE, seconds, the value that is sorted by (within the run)."""
    diversity: NotRequired[float | None]
    """Mean distance of the eight best candidates' images, root mean square per channel in [0, 1]; None of one image."""
    warnings: NotRequired[list[str]]
    fingerprints: NotRequired[dict[str, str]]
    """Of verifiers and judges, by the names of their scores, and of the model: what changes when they do."""


class CandidateRow(TypedDict):
    """A line of ``candidates.jsonl``: one finished image of a cell that was run (not of cells read off another)."""

    cell: str
    id: str
    seed: int | None
    order: int
    """In which they were scored, from 0."""
    steps: int
    draft: NotRequired[str]
    """The draft that it is; what is in full has none."""
    nfe: int
    """Spent by the run when it was scored."""
    seconds: float
    """Elapsed by then."""
    scores: dict[str, float | None]
    file: str


Row = CellRow | CandidateRow | dict[str, Any]
