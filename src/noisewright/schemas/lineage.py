"""A lineage, line by line: what each verb takes, and what it may be made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from noisewright.outside.messages import short
from noisewright.run.particle import particle_id
from noisewright.schemas.checked import CLOSED, Draw, Id, Index, Number, Seed, Steps, checked, wrong
from noisewright.schemas.drafts import LONGEST, read_draft

MOST_LINES = 100_000
"""Of one lineage. A generation of an evolution adds a handful."""

MOST_PARENTS = 4096
MOST_COORDINATES = 4096


def _some_weight(weights: list[float]) -> list[float]:
    if not 0 < sum(weights) < float("inf"):
        raise wrong("weights with a sum above 0")
    return weights


def _draft(text: str) -> str:
    """A draft as records name it: with all its arguments, so that one draft has one text."""
    try:
        found = read_draft(text)
    except ValueError as error:
        raise wrong("a draft") from error
    if found.text != text:
        raise wrong("a draft with all its arguments")
    return text


DraftText = Annotated[str, Field(strict=True, max_length=LONGEST), AfterValidator(_draft)]


class _NoiseArgs(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    seed: Seed
    steps: Steps
    draft: NotRequired[DraftText]
    of: NotRequired[Steps]


class _VaryArgs(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    cosine: Annotated[float, Field(strict=True, ge=-1, le=1)]
    draw: Draw
    drawn_as: NotRequired[Id]


class _BlendArgs(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    weights: Annotated[
        list[Number], Field(strict=True, min_length=1, max_length=MOST_PARENTS), AfterValidator(_some_weight)
    ]


class _PlaceArgs(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    at: Annotated[list[Number], Field(strict=True, min_length=1, max_length=MOST_COORDINATES)]
    drawn_as: NotRequired[Id]


class _ForkArgs(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    draw: Draw


class _DenoiseArgs(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    to: Steps


class _RenoiseArgs(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    to: Index
    draw: Draw


class _AscendArgs(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    rate: Number
    momentum: Number
    clip: Number
    norm_weight: Number


class _Line(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    id: Id
    index: Index
    parents: NotRequired[Annotated[list[Id], Field(strict=True, max_length=MOST_PARENTS)]]


class Noise(_Line):
    """A starting noise of a seed."""

    verb: Literal["noise"]
    args: _NoiseArgs


class Vary(_Line):
    """A rotated starting noise."""

    verb: Literal["vary"]
    args: _VaryArgs


class Blend(_Line):
    """The weighted mean of starting noises."""

    verb: Literal["blend"]
    args: _BlendArgs


class Place(_Line):
    """A point of a slice of noise around another."""

    verb: Literal["place"]
    args: _PlaceArgs


class Fork(_Line):
    """A copy with noise of its own."""

    verb: Literal["fork"]
    args: _ForkArgs


class Denoise(_Line):
    """A state on its way, or at its end."""

    verb: Literal["denoise"]
    args: _DenoiseArgs


class Renoise(_Line):
    """A state carried back."""

    verb: Literal["renoise"]
    args: _RenoiseArgs


class Ascend(_Line):
    """A starting noise after a step of gradient ascent."""

    verb: Literal["ascend"]
    args: _AscendArgs


Line = Annotated[Noise | Vary | Blend | Place | Fork | Denoise | Renoise | Ascend, Field(discriminator="verb")]
"""How one particle was made: the verb, its arguments, what of, and where on its schedule that stands."""

Lineage = Annotated[list[Line], Field(strict=True, min_length=1, max_length=MOST_LINES)]
"""The lines of a particle and of all that it was made of, oldest first."""

LINEAGE: TypeAdapter[Any] = TypeAdapter(Lineage)


class Made(NamedTuple):
    """What is known of a particle: where it stands, of how many steps, and the seed that makes it, if one does."""

    at: int
    steps: int
    seed: int | None


def check_lineage(value: Any, where: str) -> tuple[str, Made]:
    """Refuse what is no lineage of a particle: wrong types, unknown parents, ids that are not those of their lines.

    Args:
        value: as :meth:`noisewright.run.particle.Particle.lineage` gives it, from anywhere.
        where: what it was read from, for messages.

    Returns:
        The id of the last line, and what it made.

    Raises:
        ValueError: in one line.
    """
    checked(LINEAGE, value, f"the lineage in {where}")
    made: dict[str, Made] = {}
    last = ""
    for number, line in enumerate(value, start=1):  # as they were read: an id is a hash of exactly that
        last = check_line(line, made, last, f"line {number} of the lineage in {where}")
    return last, made[last]


def check_line(line: dict[str, Any], made: dict[str, Made], last: str, where: str) -> str:
    """Check a line whose types are right against those before it, and note it.

    Args:
        line: of a :data:`Lineage`.
        made: what was made before, by id; the line's is added.
        last: the id of the line before, whose child this one is if it names no parents; of the first line "".
        where: for messages.

    Returns:
        Its id.

    Raises:
        ValueError: in one line.
    """
    verb, args, index = line["verb"], line["args"], line["index"]
    parents = line.get("parents", [last] if last else [])
    missing = [one for one in parents if one not in made]
    if missing:
        raise ValueError(f"expected parents that were made before in {where}, got {short(missing[0])}")
    check_parents(verb, args, parents, where)
    if verb == "noise" and ("draft" in args) != ("of" in args):
        raise ValueError(f"expected draft and of together in {where}, got one of them")
    found = particle_id(verb, tuple(parents), args)
    if found != line["id"]:
        raise ValueError(f"expected the id {found} in {where}, got {line['id']}: it was edited")
    before = [made[one] for one in parents]
    lengths = {args["steps"]} if verb == "noise" else {one.steps for one in before}
    if len(lengths) != 1:
        raise ValueError(f"expected parents of one number of steps in {where}, got {short(sorted(lengths))}")
    steps = lengths.pop()
    _check_index(verb, args, index, [one.at for one in before], steps, where)
    seed = args["seed"] if verb == "noise" else before[0].seed if verb == "denoise" else None
    made[found] = Made(index, steps, seed)
    return found


def check_parents(verb: str, args: dict[str, Any], parents: Sequence[str] | None, where: str) -> None:
    """Refuse another number of parents than a verb works on; ``None`` where a line does not name them but must."""
    wanted = {"noise": 0, "blend": len(args.get("weights", ()))}.get(verb, 1)
    if parents is None or len(parents) != wanted:
        got = "none named" if parents is None else len(parents)
        raise ValueError(f"expected {wanted} parents for {verb} in {where}, got {got}")


def _check_index(verb: str, args: dict[str, Any], index: int, before: Sequence[int], steps: int, where: str) -> None:
    """Denoising goes forwards, noising back, and everything else stays where it is."""
    if verb == "denoise":
        right, words = args["to"] == index and before[0] < index <= steps, f"in [{before[0] + 1}, {steps}]"
    elif verb == "renoise":
        right, words = args["to"] == index and index <= before[0], f"in [0, {before[0]}]"
    elif verb == "fork":
        right, words = index == before[0], f"of {before[0]}"
    else:
        right, words = index == 0 and not any(before), "of 0, of starting noises alone"
    if not right:
        at = args.get("to", index)
        raise ValueError(f"expected {verb} to an index {words} in {where}, got {short(at)} and index {index}")
