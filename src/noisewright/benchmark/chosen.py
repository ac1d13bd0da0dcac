"""A person's votes among an audit's candidates: whose order of images is the person's, and how strong images are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from noisewright.benchmark.compared import Interval
from noisewright.benchmark.votes import Agreement, Strength, Vote, agreed, agreement, strengths
from noisewright.measures.paired import holm, paired_intervals, sign_flip
from noisewright.outside.inside import inside

LEAST_OF_AN_ID = 8
"""Digits by which a candidate may be named where only one begins so."""

Scores = Mapping[str, float]
Elsewhere = Callable[[Path, str], Scores]
"""Scores of a file that is no candidate, for a prompt."""


@dataclass(frozen=True)
class Preferred:
    """Two verifiers by how often they agree with a person.

    Attributes:
        one, other: their names.
        difference: of the shares, over choices that both score.
        adjusted: p of a sign-flip test over the prompts (of one prompt: over choices) after Holm's correction.
    """

    one: str
    other: str
    difference: Interval
    adjusted: float


@dataclass(frozen=True)
class Chosen:
    """What a person's votes say.

    Attributes:
        votes: how many there are.
        unknown: votes on images that are neither candidates nor files beside the table; they are left out.
        agreement: by name of who scores.
        preferred: of each two verifiers.
        strengths: of the images that were voted on, by file or id.
    """

    votes: int
    unknown: int
    agreement: Mapping[str, Agreement]
    preferred: tuple[Preferred, ...]
    strengths: tuple[Strength, ...]


@dataclass(frozen=True)
class Known:
    """An image that is a candidate: which prompt's, its file and its scores."""

    prompt: str
    file: str
    scores: Scores


class Index:
    """The candidates, by whatever a vote may name them.

    Args:
        prompts: of the candidates.
        rows: by prompt, with ``id``, ``file`` and ``scores``.
    """

    def __init__(self, prompts: Sequence[str], rows: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        self._by_id: dict[str, list[Known]] = {}
        for prompt, some in zip(prompts, rows, strict=True):
            for one in some:
                scores = {name: math.nan if value is None else float(value) for name, value in one["scores"].items()}
                self._by_id.setdefault(one["id"], []).append(Known(prompt, one["file"], scores))

    def find(self, name: str, prompt: str | None) -> Known | None:
        """The candidate of an id, the beginning of one, or a file named after it; None where it is none, or several."""
        path = PurePosixPath(name.replace("\\", "/"))
        stem = path.stem if path.suffix else path.name
        found = self._by_id.get(stem, [])
        if not found and len(stem) >= LEAST_OF_AN_ID:
            found = [one for key, some in self._by_id.items() if key.startswith(stem) for one in some]
        if len(found) > 1 and prompt is not None:
            found = [one for one in found if one.prompt == prompt]
        if len(found) > 1:  # two prompts may have candidates of one id
            found = [one for one in found if PurePosixPath(one.file).parts[-len(path.parts):] == path.parts]
        return found[0] if len(found) == 1 and prompt in (None, found[0].prompt) else None


def chosen_by(
    votes: Sequence[Vote], names: Sequence[str], verifiers: int, index: Index, place: Path,
    elsewhere: Elsewhere | None = None,
) -> Chosen:  # fmt: skip
    """What votes say of those who score.

    Args:
        votes: a person's.
        names: of who scores, verifiers first.
        verifiers: how many of them are.
        index: the candidates.
        place: the directory of the table: files that it names are looked for there, and nowhere else.
        elsewhere: scores a file that is no candidate; without it such votes are left out.

    Raises:
        ValueError: in one line, where too many images hang together.
    """
    known: list[tuple[Vote, Scores, Scores]] = []
    for vote in votes:
        both = [_found(name, vote, index, place, elsewhere) for name in (vote.winner, vote.loser)]
        if both[0] is not None and both[1] is not None:
            (winner, first), (loser, second) = both[0], both[1]
            known.append((Vote(winner, loser, vote.prompt, vote.tie), first, second))
    said = {name: [(one.get(name, math.nan), other.get(name, math.nan), vote.tie) for vote, one, other in known]
            for name in names}  # fmt: skip
    groups = _groups([vote for vote, _, _ in known])
    return Chosen(
        len(votes), len(votes) - len(known), {name: agreement(some) for name, some in said.items()},
        _preferred(names[:verifiers], said, groups), tuple(strengths([vote for vote, _, _ in known])),
    )  # fmt: skip


def _found(
    name: str, vote: Vote, index: Index, place: Path, elsewhere: Elsewhere | None
) -> tuple[str, Scores] | None:
    """What an image of a vote is called from here on, and its scores."""
    candidate = index.find(name, vote.prompt)
    if candidate is not None:
        return candidate.file, candidate.scores
    if elsewhere is None or vote.prompt is None:
        return None
    try:
        path = inside(place, name)
    except (ValueError, OSError):
        return None
    return (name, elsewhere(path, vote.prompt)) if path.is_file() else None


def _groups(votes: Sequence[Vote]) -> np.ndarray:
    """Which votes belong together: those of a prompt, else of a cell; where that is one, each by itself."""
    keys = [vote.prompt or str(PurePosixPath(vote.winner).parent) for vote in votes]
    return np.array(keys) if len(set(keys)) > 1 else np.arange(len(votes)).astype(str)


def _preferred(
    names: Sequence[str], said: Mapping[str, Sequence[tuple[float, float, bool]]], groups: np.ndarray
) -> tuple[Preferred, ...]:
    pairs = list(combinations(names, 2))
    if not pairs or not len(groups):
        return ()
    columns = [np.stack([agreed(said[pair[side]]) for pair in pairs], 1) for side in (0, 1)]
    means, low, high = paired_intervals(*columns, groups=groups)
    p = holm(sign_flip(columns[0] - columns[1], groups=groups))
    return tuple(
        Preferred(one, other, Interval(float(means[n]), float(low[n]), float(high[n])), float(p[n]))
        for n, (one, other) in enumerate(pairs)
    )
