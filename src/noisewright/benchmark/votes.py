"""A person's choices between two images: read from a file, compared with scores, and made into strengths.

A table has a choice a row: ``winner`` and ``loser``, or two images ``a`` and ``b`` and a ``choice`` between them
(``a``, ``b`` or ``tie``); a column ``prompt`` where images are not known by themselves. An image is a file, or the id
of a candidate.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisewright.measures.paired import wilson
from noisewright.outside.messages import short
from noisewright.outside.reading import read_text, shown
from noisewright.schemas.reading import parse_json

MOST_VOTES = 1_000_000
MOST_ITEMS = 1_000
"""Items that are compared with each other, of one piece: their strengths are solved for together."""

LONGEST_NAME = 5_000
PRIOR = 0.1
"""Wins, and as many losses, that each item has against one of strength 0, so that who never lost is not infinite."""

STEPS, CLOSE = 100, 1e-10
"""Newton's: the most there are, and how small the last one is."""

RESAMPLES = 1_000
AT_ONCE = 2**20
"""Numbers of a block of draws."""

CHOICES = {
    "a": "a", "b": "b", "tie": "tie", "1": "a", "2": "b", "left": "a", "right": "b", "equal": "tie", "both": "tie",
    "neither": "tie", "draw": "tie",
}  # fmt: skip
"""What a choice may be called."""

KEYS = ("prompt", "winner", "loser", "a", "b", "choice")
OTHER_NAMES = {"image_a": "a", "image_b": "b", "image a": "a", "image b": "b", "image1": "a", "image2": "b",
               "vote": "choice", "text": "prompt"}  # fmt: skip


@dataclass(frozen=True)
class Vote:
    """One choice between two images.

    Attributes:
        winner: the preferred one: a file or the id of a candidate; of a tie the first.
        loser: the other one.
        prompt: what both should show, or None where the images say it.
        tie: whether neither was preferred.
    """

    winner: str
    loser: str
    prompt: str | None = None
    tie: bool = False


@dataclass(frozen=True)
class Strength:
    """What choices say of an item.

    Attributes:
        item: its name.
        value: Bradley and Terry's log strength; 0 is the mean of a piece's items, nearly (see :func:`strengths`). The
            odds of one against another are ``exp`` of the difference.
        low, high: the 95 % percentile interval of choices drawn anew.
        wins: how often it was preferred, ties as a half.
        choices: how often it was looked at.
    """

    item: str
    value: float
    low: float
    high: float
    wins: float
    choices: int


# Reading


def read_votes(path: str | Path) -> list[Vote]:
    """The choices of a CSV, TSV, JSONL or JSON file; by its suffix, others are taken for CSV.

    Raises:
        ValueError: in one line, with the line's number where it is about one.
    """
    text = read_text(path, "a file of votes")
    suffix = Path(path).suffix.lower()
    rows = _objects(text, suffix, path) if suffix in (".json", ".jsonl") else _table(text, suffix, path)
    if not rows:
        raise ValueError(f"expected votes in {shown(path)}, got none")
    if len(rows) > MOST_VOTES:
        raise ValueError(f"expected at most {MOST_VOTES} votes in {shown(path)}, got {len(rows)}")
    return [_vote(row, f"line {number} of {shown(path)}") for number, row in rows]


def _table(text: str, suffix: str, path: str | Path) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ",", strict=True)
    found: list[tuple[int, dict[str, Any]]] = []
    try:
        header = [_key(one) for one in next(reader, [])]
        _check_columns(header, shown(path))
        for cells in reader:
            if not any(one.strip() for one in cells):
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"expected {len(header)} cells in line {reader.line_num} of {shown(path)}, got {len(cells)}"
                )
            found.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise ValueError(f"expected a table in {shown(path)}, got line {reader.line_num}: {error}") from None
    return found


def _objects(text: str, suffix: str, path: str | Path) -> list[tuple[int, dict[str, Any]]]:
    if suffix == ".json":
        held = parse_json(text, shown(path))
        if not isinstance(held, list):
            raise ValueError(f"expected a list of votes in {shown(path)}, got {short(held)}")
        numbered = list(enumerate(held, start=1))
    else:
        lines = enumerate(text.split("\n"), start=1)
        numbered = [(n, parse_json(line, f"line {n} of {shown(path)}")) for n, line in lines if line.strip()]
    for number, one in numbered:
        if not isinstance(one, dict):
            raise ValueError(f"expected an object as a vote in line {number} of {shown(path)}, got {short(one)}")
        _check_columns([_key(name) for name in one], f"line {number} of {shown(path)}")
    return [(number, {_key(name): value for name, value in one.items()}) for number, one in numbered]


def _key(name: str) -> str:
    plain = name.strip().lower()
    return OTHER_NAMES.get(plain, plain)


def _check_columns(found: Sequence[str], where: str) -> None:
    if not ({"winner", "loser"} <= set(found) or {"a", "b", "choice"} <= set(found)):
        named = short(", ".join(found)) if any(found) else "none"
        raise ValueError(f"expected the columns winner and loser, or a, b and choice, in {where}, got {named}")
    twice = next((name for name in found if name in KEYS and found.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"expected the column {twice} once in {where}, got it {found.count(twice)} times")


def _vote(row: Mapping[str, Any], where: str) -> Vote:
    prompt = _text(row.get("prompt"), "prompt", where) if row.get("prompt") not in (None, "") else None
    choice = "a"
    one, other = row.get("winner"), row.get("loser")
    if "choice" in row and "a" in row and "b" in row:
        one, other, said = row["a"], row["b"], str(row["choice"]).strip().lower()
        if said not in CHOICES:
            raise ValueError(f"expected a, b or tie as the choice in {where}, got {short(row['choice'])}")
        choice = CHOICES[said]
    images = [_text(one, "image", where), _text(other, "image", where)]
    if images[0] == images[1]:
        raise ValueError(f"expected two images in {where}, got {short(images[0])} twice")
    if choice == "b":
        images.reverse()
    return Vote(images[0], images[1], prompt, choice == "tie")


def _text(value: Any, what: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME:
        article = "an" if what[0] in "aeiou" else "a"
        raise ValueError(f"expected {article} {what} as text in {where}, got {short(value)}")
    return value.strip()


# How far scores agree


@dataclass(frozen=True)
class Agreement:
    """How often a verifier's order of two images is a person's.

    Attributes:
        rate: of the choices that were none of a tie; where the verifier scores both alike, a half. NaN of none.
        low, high: its 95 % interval (Wilson 1927).
        choices: how many there were.
        undecided: of them, how often the verifier scored both alike.
        ties: choices that were left out since neither image was preferred.
        missing: choices that were left out since one of both has no score.
    """

    rate: float
    low: float
    high: float
    choices: int
    undecided: int
    ties: int
    missing: int


def agreed(votes: Sequence[tuple[float, float, bool]]) -> np.ndarray:
    """(n,): of each (score of the winner, of the loser, tie) 1 agrees, 0 does not, 0.5 both alike, NaN no say."""
    found = np.full(len(votes), np.nan)
    for place, (winner, loser, tie) in enumerate(votes):
        if not tie and math.isfinite(winner) and math.isfinite(loser):
            found[place] = 0.5 if winner == loser else float(winner > loser)
    return found


def agreement(votes: Sequence[tuple[float, float, bool]]) -> Agreement:
    """How often scores say what a person said.

    Args:
        votes: score of the winner, score of the loser, and whether it was a tie.
    """
    each = agreed(votes)
    said = each[np.isfinite(each)]
    ties = sum(tie for _, _, tie in votes)
    rate = float(said.mean()) if len(said) else math.nan
    low, high = wilson(said.sum(), len(said))
    undecided, missing = int((said == 0.5).sum()), len(votes) - ties - len(said)
    return Agreement(rate, float(low), float(high), len(said), undecided, ties, missing)


# Strengths


def strengths(votes: Sequence[Vote], *, resamples: int = RESAMPLES, seed: int = 0) -> list[Strength]:
    """Log strengths of the items of some choices, strongest first (Bradley and Terry 1952).

    The largest of the likelihood with :data:`PRIOR` wins and losses of each item against one of strength 0; a tie is
    half a win for both (the usual shortcut; Davidson 1970 has a parameter for it). Items that no chain of choices
    joins, such as images of two prompts, are solved for apart: their strengths are not to be compared. Intervals: a
    parametric bootstrap, in which the same pairs are chosen from anew by the strengths that were found (ties stay
    ties), since of a single choice drawing with replacement knows no doubt.

    Args:
        votes: the choices.
        resamples: draws for the intervals.
        seed: of the draws.

    Raises:
        ValueError: where more than :data:`MOST_ITEMS` items hang together.
    """
    generator, found = np.random.default_rng(seed), []
    for items, some in _pieces(votes):
        place = {item: number for number, item in enumerate(items)}
        first = np.array([place[one.winner] for one in some])
        second = np.array([place[one.loser] for one in some])
        won = np.array([[0.5 if one.tie else 1.0 for one in some]])
        values = _solved(_tables(first, second, won, len(items)))[0]
        low, high = _ends(values, first, second, won[0] == 0.5, resamples, generator)
        wins = np.bincount(first, won[0], len(items)) + np.bincount(second, 1 - won[0], len(items))
        seen = np.bincount(first, minlength=len(items)) + np.bincount(second, minlength=len(items))
        found += [
            Strength(item, float(values[k]), float(low[k]), float(high[k]), float(wins[k]), int(seen[k]))
            for k, item in enumerate(items)
        ]
    return sorted(found, key=lambda one: (-one.value, one.item))


def _pieces(votes: Sequence[Vote]) -> list[tuple[list[str], list[Vote]]]:
    """The items that chains of choices join, in order of appearance, with their choices."""
    parent: dict[str, str] = {}

    def root(item: str) -> str:
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one in votes:
        parent[root(one.loser)] = root(one.winner)
    items: dict[str, list[str]] = {}
    for item in parent:
        items.setdefault(root(item), []).append(item)
    some: dict[str, list[Vote]] = {}
    for one in votes:
        some.setdefault(root(one.winner), []).append(one)
    largest = max(map(len, items.values()), default=0)
    if largest > MOST_ITEMS:
        raise ValueError(f"expected at most {MOST_ITEMS} images that votes compare, directly or not, got {largest}")
    return [(items[key], some[key]) for key in items]


def _tables(first: np.ndarray, second: np.ndarray, won: np.ndarray, count: int) -> np.ndarray:
    """(draws, count, count): how often the row was preferred to the column, of (draws, choices) wins of the first."""
    draws = len(won)
    offset = np.arange(draws)[:, None] * count * count
    places = np.concatenate([offset + first * count + second, offset + second * count + first], 1)
    weights = np.concatenate([won, 1 - won], 1)
    return np.bincount(places.ravel(), weights.ravel(), draws * count * count).reshape(draws, count, count)


def _ends(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, ties: np.ndarray, resamples: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Lower and upper ends of strengths; NaN without draws."""
    if not resamples:
        return np.full(len(values), np.nan), np.full(len(values), np.nan)
    chance = 1 / (1 + np.exp(values[second] - values[first]))
    drawn, block = [], max(1, AT_ONCE // max(len(values) ** 2, len(first)))
    for done in range(0, resamples, block):
        won = generator.random((min(block, resamples - done), len(first))) < chance
        drawn.append(_solved(_tables(first, second, np.where(ties, 0.5, won), len(values))))
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5], axis=0)
    return low, high


def _solved(wins: np.ndarray) -> np.ndarray:
    """(draws, n): the strengths that make tables of wins most likely, by Newton's method; with the prior it is concave.

    Args:
        wins: (draws, n, n).
    """
    both = wins + wins.transpose(0, 2, 1)
    target = wins.sum(2) + PRIOR
    values = np.zeros(target.shape)
    places = np.arange(wins.shape[1])
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(values[:, None] - values[:, :, None]))  # of the row against the column
        alone = 1 / (1 + np.exp(-values))  # against an item of strength 0
        gradient = target - (both * chance).sum(2) - 2 * PRIOR * alone
        hessian = -both * chance * (1 - chance)
        hessian[:, places, places] += 2 * PRIOR * alone * (1 - alone) - hessian.sum(2)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        largest = np.abs(step).max(1, keepdims=True)
        values += step * np.minimum(1.0, 2.0 / np.maximum(largest, 1e-300))  # far away a whole step may overshoot
        if float(largest.max()) < CLOSE:
            break
    return values
