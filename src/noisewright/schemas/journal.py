"""The lines of ``journal.jsonl``, a type a verb.

In schema 1 a line holds the whole lineage of each particle, in schema 2 it describes those that no line before it did.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from noisewright.outside.messages import short
from noisewright.schemas.checked import (
    CLOSED,
    MOST_BATCH,
    BatchSize,
    Count,
    Hash,
    Id,
    ImageFile,
    Index,
    Name,
    Number,
    Plain,
    Seconds,
    Seed,
    Steps,
    checked,
    matching,
    wrong,
)
from noisewright.schemas.lineage import MOST_LINES, DraftText, Line, Lineage, Made, check_line, check_parents

MOST_VERIFIERS = 100


def _once(ids: list[str]) -> list[str]:
    if len(set(ids)) < len(ids):
        raise wrong("each id once")
    return ids


Ids = Annotated[list[Id], Field(strict=True, min_length=1, max_length=MOST_BATCH), AfterValidator(_once)]
Score = Number | None
Column = Annotated[list[Score], Field(strict=True, max_length=MOST_BATCH)]
Columns = Annotated[dict[Name, Column], Field(strict=True, max_length=MOST_VERIFIERS)]
Phases = Annotated[dict[Literal["encode", "denoise", "decode", "verify"], Seconds], Field(strict=True)]
Lineages = Annotated[list[Lineage], Field(strict=True, max_length=MOST_BATCH)]
Described = Annotated[list[Line], Field(strict=True, max_length=MOST_LINES)]
Digest = Annotated[str, matching(r"[0-9a-f]{32}", "32 hex digits")]
Reasons = Annotated[dict[Id, Literal["nan", "nsfw"]], Field(strict=True, max_length=MOST_BATCH)]


class _Record(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    elapsed: NotRequired[Seconds]
    seconds: NotRequired[Phases]


class _Metered(_Record):
    nfe: NotRequired[Count]
    forwards: NotRequired[Count]
    decodes: NotRequired[Count]


class _Speaks(_Metered):
    lineages: NotRequired[Lineages]
    particles: NotRequired[Described]
    state: NotRequired[Digest | None]


class Finish(_Speaks):
    """Images of a micro-batch; ``spared`` is how much longer it takes where none of them is known from another run."""

    verb: Literal["finish"]
    ids: Ids
    seeds: Annotated[list[Seed | None], Field(strict=True)]
    files: Annotated[list[ImageFile], Field(strict=True)]
    pixels: Annotated[list[Hash], Field(strict=True)]
    digests: NotRequired[Annotated[list[Digest], Field(strict=True)]]
    broken: NotRequired[Reasons]
    nsfw_content_detected: NotRequired[Annotated[list[bool], Field(strict=True)]]
    previews: NotRequired[Digest | None]
    spared: NotRequired[Seconds]
    steps: Steps


class Score_(_Record):
    """What the verifiers said of a micro-batch, by name; null where one has no number."""

    verb: Literal["score"]
    ids: Ids
    scores: Columns
    details: NotRequired[Plain]


class Judge(_Record):
    """What a judge said of baseline and best."""

    verb: Literal["judge"]
    judge: Name
    ids: Ids
    scores: Column
    details: NotRequired[Plain]


class Denoised(_Speaks):
    """A micro-batch of unfinished particles at one index."""

    verb: Literal["denoise"]
    ids: Ids
    to: Steps


class Ascended(_Speaks):
    """A micro-batch of starting noises after a step of gradient ascent, and what it climbed from."""

    verb: Literal["ascend"]
    ids: Ids
    objective: Annotated[list[Score], Field(strict=True)]


class Previewed(_Speaks):
    """Scores of clean estimates at an index."""

    verb: Literal["preview"]
    ids: Ids
    index: Index
    scores: Columns


class Shrink(_Metered):
    """Memory ran out: micro-batches are of this size from here on."""

    verb: Literal["shrink"]
    batch_size: BatchSize


class Proved(_Record):
    """What a pilot said of a draft, and whether it is used (:mod:`noisewright.run.drafts`)."""

    verb: Literal["prove"]
    draft: DraftText
    used: Annotated[bool, Field(strict=True)]
    pilot: Count
    correlation: NotRequired[Annotated[float, Field(strict=True, ge=-1, le=1)]]
    ratio: NotRequired[Seconds]
    drafts: NotRequired[Number]
    full: NotRequired[Number]
    gain: NotRequired[Number]
    gain_in_full: NotRequired[Number]
    shift: NotRequired[Annotated[dict[Name, Number], Field(strict=True, max_length=MOST_VERIFIERS)]]


Record = Annotated[
    Finish | Score_ | Judge | Denoised | Ascended | Previewed | Shrink | Proved, Field(discriminator="verb")
]

RECORD: TypeAdapter[Any] = TypeAdapter(Record)

AS_LONG = ("seeds", "lineages", "files", "pixels", "digests", "nsfw_content_detected", "objective")
"""The lists that have an entry for each id."""


def check_record(value: Any, where: str) -> dict[str, Any]:
    """A line of the journal, checked by itself.

    Raises:
        ValueError: in one line, on a wrong type, lists of other lengths than the ids, or a lineage that does not lead
            to its id.
    """
    checked(RECORD, value, where)
    found: dict[str, Any] = value
    ids = found.get("ids", [])
    columns = found.get("scores", {})
    lists = [(name, found[name]) for name in AS_LONG if name in found]
    lists += columns.items() if isinstance(columns, dict) else [("scores", columns)]
    for name, one in lists:
        if len(one) != len(ids):
            raise ValueError(f"expected {len(ids)} entries of {short(name)} in {where}, got {len(one)}")
    for line in found.get("particles", []):
        check_parents(line["verb"], line["args"], line.get("parents"), where)
    _check_ends(found, where)
    return found


def _check_ends(found: dict[str, Any], where: str) -> None:
    """Whether each lineage leads to its id, with the seed and to the index that the line says."""
    verb = found["verb"]
    wanted = found.get({"finish": "steps", "denoise": "to", "preview": "index"}.get(verb, ""), 0)
    for row, lineage in enumerate(found.get("lineages", [])):
        made: dict[str, Made] = {}
        key, last = found["ids"][row], ""
        for number, line in enumerate(lineage, start=1):
            last = check_line(line, made, last, f"line {number} of lineage {row + 1} in {where}")
        if last != key:
            raise ValueError(f"expected a lineage that leads to {key} in {where}, got one to {last}")
        index, steps, seed = made[key]
        if index != wanted or (verb == "finish" and index != steps):
            raise ValueError(f"expected {verb} of particles at index {wanted} in {where}, got {index} of {steps}")
        if verb == "finish" and found["seeds"][row] != seed:
            raise ValueError(f"expected the seed {seed} of {key} in {where}, got {found['seeds'][row]}")
