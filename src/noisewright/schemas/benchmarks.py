"""What a benchmark's directory says: ``benchmark.json`` but for its spec, and the rows, as they are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from noisewright.schemas.checked import (
    CLOSED,
    OPEN,
    Count,
    Id,
    Name,
    Number,
    PlainObject,
    Sayable,
    Seconds,
    Seed,
    Share,
    Steps,
    Text,
    checked,
    matching,
    whole,
)
from noisewright.schemas.journal import Column, Ids
from noisewright.schemas.lineage import DraftText

MOST_ROW = 2**22
"""Bytes of one line: a curve of a thousand points takes a hundredth of it."""

RunOfBenchmark = Annotated[Sayable, matching(r"cells/[0-9a-f]{16}", "a directory cells/DIGEST inside the benchmark's")]
PictureOfBenchmark = Annotated[
    Sayable,
    matching(
        r"cells/[0-9a-f]{16}/(best|baseline|images/[0-9a-f]{16})\.png",
        "a PNG of a run inside the benchmark's directory",
    ),
]
Scores = Annotated[dict[Name, Number | None], Field(strict=True, max_length=200)]
Labels = Annotated[dict[Name, Text], Field(strict=True, max_length=100)]
Names = Annotated[list[Name], Field(strict=True, max_length=200)]
CurvePoint = Annotated[list[Number | None], Field(strict=True, min_length=4, max_length=4)]
From1 = Annotated[int, whole(1)]


class ShownRowJson(TypedDict):
    """A candidate of a cell's row."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    id: Id
    seed: Seed | None
    scores: Scores
    file: PictureOfBenchmark


class CellSecondsJson(TypedDict):
    """Of a cell, by phase."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    encode: Seconds
    denoise: Seconds
    decode: Seconds
    verify: Seconds
    total: Seconds


class OfCellJson(TypedDict):
    """What a row of any cell says."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    cell: Id
    coordinates: Labels
    prompt: Text
    number: From1
    category: Text | None
    seed: Seed
    repeat: Count


class FailedRowJson(OfCellJson):
    """A row of a cell that failed."""

    status: Literal["failed"]
    error: Text


class DoneRowJson(OfCellJson):
    """A row of a cell that is done."""

    status: Literal["done"]
    run: RunOfBenchmark
    shared: bool
    images: From1
    nfe: Count
    forwards: Count
    seconds: CellSecondsJson
    stopped: Text
    verifiers: Names
    judges: Names
    best: ShownRowJson
    baseline: ShownRowJson
    curve: Annotated[list[CurvePoint], Field(strict=True, max_length=1_000_000)]
    diversity: Share | None
    warnings: Annotated[list[Text], Field(strict=True, max_length=1000)]
    fingerprints: NotRequired[Annotated[dict[Name, Text], Field(strict=True, max_length=200)]]


class CandidateRowJson(TypedDict):
    """A row of a candidate."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    cell: Id
    id: Id
    seed: Seed | None
    order: Count
    steps: Steps
    draft: NotRequired[DraftText]
    nfe: Count
    seconds: Seconds
    scores: Scores
    file: PictureOfBenchmark


class OpinionJson(TypedDict):
    """What a verifier said of images of a run that was not its own."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    verifier: Name
    fingerprint: Text
    ids: Ids
    scores: Column
    seconds: Seconds


class BenchmarkJson(TypedDict):
    """``benchmark.json``; its spec is read by a schema of its own."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    version: From1
    status: Literal["running", "done", "failed", "interrupted"]
    created: Text
    versions: Annotated[dict[Name, Text], Field(strict=True, max_length=100)]
    spec: PlainObject
    check: NotRequired[Text]


CELL_ROW: TypeAdapter[Any] = TypeAdapter(Annotated[DoneRowJson | FailedRowJson, Field(discriminator="status")])
CANDIDATE_ROW: TypeAdapter[Any] = TypeAdapter(CandidateRowJson)
BENCHMARK: TypeAdapter[Any] = TypeAdapter(BenchmarkJson)


def check_benchmark(value: Any, where: str) -> dict[str, Any]:
    """``benchmark.json``, but for its spec.

    Raises:
        ValueError: in one line.
    """
    checked(BENCHMARK, value, where)
    found: dict[str, Any] = value
    return found
