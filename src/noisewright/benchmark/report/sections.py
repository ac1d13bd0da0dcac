"""What a report holds, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright.benchmark.compared import Compared
from noisewright.benchmark.report.blocks import Block, Drawn, Entry, Folded, Said, Section, Table, Typed
from noisewright.benchmark.report.drawings import diversity_plots, optimised_plots, score_plots, time_blocks
from noisewright.benchmark.report.numbers import ordered_scores
from noisewright.benchmark.report.sheets import Sheets, sheet_html
from noisewright.benchmark.report.tables import (
    category_blocks,
    cost_table,
    difference_blocks,
    failure_table,
    optimised_table,
    score_table,
)
from noisewright.benchmark.report.wall import wall_blocks
from noisewright.benchmark.report.words import facts, reading, warnings_of
from noisewright.benchmark.rows import CellRow
from noisewright.benchmark.spec import Spec

GRID = "grid.png"
AGAIN = (
    "benchmark.json, beside this file, holds what was asked for, every prompt spelled out; the command that was typed "
    "makes it again, with --out and another directory."
)
MOST_SCORES = 12
"""Columns of the table of final scores, and tables of differences."""


def sections_of(
    root: Path, spec: Spec, rows: Sequence[CellRow], compared: Compared, sheets: Sheets, *, held: Mapping[str, Any],
    command: str | None,
) -> list[Section]:  # fmt: skip
    """The sections that have something to say.

    Args:
        root: the benchmark's directory.
        spec: of the benchmark.
        rows: of its cells.
        compared: what came of them.
        sheets: its pictures as a grid; may be empty.
        held: of its ``benchmark.json``.
        command: what makes it again, where that is known.
    """
    scores = ordered_scores(compared)[:MOST_SCORES]
    reference = " and ".join(f"{name} {label}" for name, label in spec.reference.items())
    grid = Section("The grid", tuple(_grid(root, sheets)))
    first = len(spec.prompts) == 1  # a grid of one prompt is made for its pictures
    found = [
        Section("What was compared", tuple(_facts(facts(spec, rows, compared, held)))),
        *([grid] if first else []),
        Section("Final scores", tuple(_final(compared, scores))),
        Section("Scores against cost", tuple(score_plots(compared))),
        Section("Gain over the plain image", tuple(difference_blocks(compared, scores, to="gain"))),
        Section(f"Difference to {reference}", tuple(difference_blocks(compared, scores, to="against"))),
        Section("Verifiers against judges", tuple(_optimised(compared))),
        Section("By category", tuple(category_blocks(compared, scores))),
        Section("Images", tuple(wall_blocks(root, compared))),
        *([] if first else [grid]),
        Section("Diversity", tuple(diversity_plots(compared))),
        Section("Where the time went", tuple(time_blocks(compared))),
        Section("Costs", tuple(cost_table(compared)) if compared.points else ()),
        Section("Failures", tuple(failure_table(compared))),
        Section("Warnings", tuple(_warnings(rows))),
        Section("What the source says", tuple(Said(note) for note in spec.notes)),
        Section("How to read this", tuple(Said(text) for text in reading(compared))),
        Section("To make it again", (Said(AGAIN) if command is None else Typed(command),)),
    ]
    return [section for section in found if section.blocks]


def _facts(lines: Sequence[tuple[str, str]]) -> list[Block]:
    return [Table(("", ""), tuple((Entry(name), Entry(text)) for name, text in lines), texts=frozenset({1}))]


def _grid(root: Path, sheets: Sheets) -> list[Block]:
    if not sheets.sheets:
        return []
    tables = "".join(sheet_html(root, sheet) for sheet in sheets.sheets)
    blocks: list[Block] = [Drawn(tables, f"![the grid of pictures]({GRID})")]
    return [*blocks, *(Said(note, faint=True) for note in sheets.notes)]


def _final(compared: Compared, scores: Sequence[str]) -> list[Block]:
    if not scores:
        return []
    said = "Mean of the best candidate; ▲ ▼: differs from the plain image, after Holm's correction."
    more = len(compared.scores) - len(scores)
    extra = [Said(f"{more} more scores are in cells.csv.", faint=True)] if more > 0 else []
    return [*score_table(compared, scores), Said(said, faint=True), *extra]


def _optimised(compared: Compared) -> list[Block]:
    plots, table = optimised_plots(compared), optimised_table(compared)
    if not table:
        return []
    said = ("What a search optimises goes up with its budget. Where a judge that it never saw goes down meanwhile, the "
            "search has found what the verifier likes and not a better image.")  # fmt: skip
    folded = [Folded("All verifiers and judges, at the end of each curve", tuple(table))]
    return [Said(said), *plots, *(folded if plots else table)]


def _warnings(rows: Sequence[CellRow]) -> list[Block]:
    found = warnings_of(rows)
    table = tuple((Entry(text), Entry(str(count), count)) for text, count in found)
    return [Table(("what the runs warned of", "cells"), table)] if table else []
