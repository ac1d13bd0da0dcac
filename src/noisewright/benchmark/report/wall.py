"""A wall of images: baseline beside best, for the largest gains, the median and the largest losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noisewright.benchmark.rows import CellRow, ShownCandidate
from noisewright.evaluate.numbers import decimals, gained, written
from noisewright.evaluate.page import escaped, picture_inside

LARGEST, MEDIAN = 4, 2
"""Pairs of the largest gains and of the largest losses, and of those about the median."""

SIDE = 256
"""Pixels of a picture's longer side."""


@dataclass(frozen=True)
class Pair:
    """A cell as the wall shows it.

    Attributes:
        group: ``largest gain``, ``median`` or ``largest loss`` (``smallest gain`` where nothing was lost).
        row: the cell's.
        gain: of the score that the wall is sorted by: best less baseline.
    """

    group: str
    row: CellRow
    gain: float


def gain_of(row: CellRow, metric: str) -> float | None:
    """A cell's gain over the plain image of its prompt and seed; None where one of both has no number."""
    if row["status"] != "done" or "best" not in row or "baseline" not in row:
        return None
    after, before = row["best"]["scores"].get(metric), row["baseline"]["scores"].get(metric)
    if after is None or before is None or not math.isfinite(after - before):
        return None
    return after - before


def pairs_of(rows: Sequence[CellRow], metric: str) -> list[Pair]:
    """The pairs of the wall, each prompt at most once as far as there are enough: gains, median, losses.

    Args:
        rows: of cells; failed ones, and those without the score, are left out.
        metric: the verifier or judge whose gain they are sorted by.
    """
    found = [(gain, row) for row in rows if (gain := gain_of(row, metric)) is not None]
    found.sort(key=lambda one: (-one[0], one[1]["number"], one[1]["repeat"], one[1]["cell"]))
    if not found:
        return []
    middle = found[len(found) // 2][0]
    near = sorted(found, key=lambda one: abs(one[0] - middle))
    used: set[str] = set()
    prompts: set[int] = set()
    gains = _taken(found, LARGEST, used, prompts)
    losses = _taken([one for one in reversed(found) if one[0] < gains[-1][0]], LARGEST, used, prompts)
    median = _taken(near, MEDIAN, used, prompts)
    lost = "largest loss" if losses and losses[0][0] < 0 else "smallest gain"
    groups = (("largest gain", gains), ("median", median), (lost, losses))
    return [Pair(name, row, gain) for name, group in groups for gain, row in group]


def _taken(
    found: Sequence[tuple[float, CellRow]], count: int, used: set[str], prompts: set[int]
) -> list[tuple[float, CellRow]]:
    """The first of some cells that stand nowhere yet, those of other prompts before those of the same."""
    chosen: list[int] = []
    for again in (False, True):
        for place, (_, row) in enumerate(found):
            if len(chosen) < count and row["cell"] not in used and (again or row["number"] not in prompts):
                chosen.append(place)
                used.add(row["cell"])
                prompts.add(row["number"])
    return [found[place] for place in sorted(chosen)]


def wall_html(root: Path, pairs: Sequence[Pair], metric: str) -> str:
    """The pairs as HTML, a heading for each group; a picture that is gone, or lies elsewhere, is said to be.

    Args:
        root: the benchmark's directory.
        pairs: from :func:`pairs_of`.
        metric: what they are sorted by.
    """
    parts = []
    for group in dict.fromkeys(pair.group for pair in pairs):
        cards = "".join(_card(root, pair, metric) for pair in pairs if pair.group == group)
        parts.append(f'<h3>{escaped(group.capitalize())}</h3><div class="wall">{cards}</div>')
    return "".join(parts)


def _card(root: Path, pair: Pair, metric: str) -> str:
    row = pair.row
    both = [("baseline", row["baseline"]), ("best", row["best"])]
    names = [metric, *(name for name in row["best"]["scores"] if name != metric)]
    judges = row.get("judges", [])
    places = {name: decimals(one["scores"].get(name) for _, one in both) for name in names}

    def figure(called: str, one: ShownCandidate) -> str:
        scores = [(f"{name} (judge)" if name in judges else name, written(one["scores"].get(name), places[name]))
                  for name in names]  # fmt: skip
        alt = f"{row['prompt']} ({called}): " + ", ".join(f"{name} {value}" for name, value in scores)
        shown = picture_inside(root, one["file"], SIDE, alt) or '<div class="gone">its file is gone</div>'
        lines = "".join(f"<div><span>{escaped(name)}</span><b>{escaped(value)}</b></div>" for name, value in scores)
        return f'<figure>{shown}<figcaption>{called}</figcaption><div class="scores">{lines}</div></figure>'

    before, after = row["baseline"]["scores"].get(metric), row["best"]["scores"].get(metric)
    where = ", ".join(f"{name} {label}" for name, label in row["coordinates"].items())
    same = " The best is the baseline itself." if row["best"]["id"] == row["baseline"]["id"] else ""
    said = f"{metric} {gained(before, after, places[metric])}; {where}; seed {row['seed']}.{same}"
    figures = "".join(figure(*one) for one in both)
    return (f'<div class="pair"><b>{escaped(row["prompt"])}</b><div class="two">{figures}</div>'
            f'<p class="faint">{escaped(said)}</p></div>')  # fmt: skip


def wall_rows(pairs: Sequence[Pair], metric: str) -> list[tuple[str, ...]]:
    """The pairs in words, for a report without pictures: group, prompt, where, both scores, both files."""
    found: list[tuple[str, ...]] = []
    for pair in pairs:
        best, baseline = pair.row["best"], pair.row["baseline"]
        before, after = baseline["scores"].get(metric), best["scores"].get(metric)
        places = decimals([before, after])
        where = ", ".join(f"{name} {label}" for name, label in pair.row["coordinates"].items())
        found.append((pair.group, pair.row["prompt"], where, written(before, places), written(after, places),
                      gained(before, after, places), best["file"]))  # fmt: skip
    return found
