"""A wall of images: baseline beside best, for the largest gain, the median and the largest loss of a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from noisewright.benchmark.compared import Compared, WallCell
from noisewright.benchmark.report.blocks import Block, Drawn, Entry, Said, Table, markdown_of
from noisewright.benchmark.report.numbers import number, signed
from noisewright.evaluate.numbers import decimals
from noisewright.evaluate.page import escaped, picture_inside

MOST_POINTS = 8
"""Points whose images are shown: those with the largest mean gain."""

MOST_NAMES = 6
"""Scores below a picture."""

SIDE = 256
"""Pixels of a picture's longer side."""


def wall_blocks(root: Path, compared: Compared) -> list[Block]:
    """The pairs of the points that gained most, a row each, and what was left out.

    Args:
        root: the benchmark's directory; a picture that is gone, or lies elsewhere, is said to be.
        compared: its ``wall`` says which cells.
    """
    if not compared.wall or compared.pairs < 2:
        return []
    points = list(dict.fromkeys(cell.point for cell in compared.wall))
    shown = sorted(points, key=lambda one: -_mean_gain(compared, one))[:MOST_POINTS]
    score = compared.wall[0].score
    blocks: list[Block] = [Said(
        f"For each point the prompts and seeds with the largest gain of {score}, the median one and the largest loss, "
        "baseline at the left and best at the right.", faint=True)]  # fmt: skip
    if len(points) > len(shown):
        many = f"Of {len(points)} points the {len(shown)} with the largest mean gain are shown."
        blocks.append(Said(many, faint=True))
    rows, parts = [], []
    for point in shown:
        cells = [cell for cell in compared.wall if cell.point == point]
        label = compared.points[point].label or compared.title
        cards = "".join(_card(root, compared, cell) for cell in cells)
        parts.append(f'<h3>{escaped(label)}</h3><div class="wall">{cards}</div>')
        rows += [_row(compared, label, cell) for cell in cells]
    heads = ("point", "which", "prompt", f"{score} of the baseline", "of the best", "gain", "image")
    in_words = markdown_of(Table(heads, tuple(rows), texts=frozenset({1, 2, 6})))
    return [*blocks, Drawn("".join(parts), in_words)]


def _mean_gain(compared: Compared, point: int) -> float:
    gains = [cell.gain for cell in compared.wall if cell.point == point and math.isfinite(cell.gain)]
    measured = compared.points[point].scores.get(compared.wall[0].score)
    if measured is not None and measured.gain is not None and math.isfinite(measured.gain.mean):
        return measured.gain.mean
    return sum(gains) / len(gains) if gains else -math.inf


def _names(cell: WallCell) -> list[str]:
    return list(dict.fromkeys([cell.score, *cell.best_scores]))[:MOST_NAMES]


def _places(compared: Compared, names: Sequence[str]) -> dict[str, int]:
    """Decimals of each score, the same on the whole wall."""
    every = [scores for cell in compared.wall for scores in (cell.baseline_scores, cell.best_scores)]
    return {name: decimals(scores.get(name) for scores in every) for name in names}


def _card(root: Path, compared: Compared, cell: WallCell) -> str:
    """One pair, its prompt above, each picture with its scores below."""
    here = compared.points[cell.point].scores
    both = (("baseline", cell.baseline, cell.baseline_scores), ("best", cell.best, cell.best_scores))
    places = _places(compared, _names(cell))

    def figure(called: str, file: str, scores: dict[str, float | None]) -> str:
        said = [(f"{name} (judge)" if name in here and here[name].role == "judge" else name,
                 number(scores.get(name), places[name])) for name in _names(cell)]  # fmt: skip
        alt = f"{cell.prompt} ({called}): " + ", ".join(f"{name} {value}" for name, value in said)
        shown = picture_inside(root, file, SIDE, alt) or '<div class="gone">its file is gone</div>'
        lines = "".join(f"<div><span>{escaped(name)}</span><b>{escaped(value)}</b></div>" for name, value in said)
        return f'<figure>{shown}<figcaption>{called}</figcaption><div class="scores">{lines}</div></figure>'

    figures = "".join(figure(called, file, dict(scores)) for called, file, scores in both)
    same = " The best is the baseline itself." if cell.best == cell.baseline else ""
    said = f"{cell.score} {signed(cell.gain, places[cell.score])}, seed {cell.seed}.{same}"
    which = f'<p class="which">{escaped(cell.which.capitalize())}: <b>{escaped(cell.prompt)}</b></p>'
    return f'<div class="pair">{which}<div class="two">{figures}</div><p class="faint">{escaped(said)}</p></div>'


def _row(compared: Compared, label: str, cell: WallCell) -> tuple[Entry, ...]:
    before, after = cell.baseline_scores.get(cell.score), cell.best_scores.get(cell.score)
    places = _places(compared, [cell.score])[cell.score]
    return (Entry(label), Entry(cell.which), Entry(cell.prompt), Entry(number(before, places)),
            Entry(number(after, places)), Entry(signed(cell.gain, places)), Entry(cell.best))  # fmt: skip
