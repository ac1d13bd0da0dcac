"""Markdown tables of what the benchmark of schedules keeps. Changes are negative where something is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import _schedules_fits as fits
import _schedules_model as model
from _schedules_fid import fids
from _schedules_store import FITTED, Cell
from _schedules_text import before_of, correlation, ends, fall, heading, line
from noisewright.diffusion.schedule import Schedule
from noisewright.measures.bootstrap import interval
from noisewright.trajectory.comparison import metric_value
from noisewright.trajectory.metrics import FEWEST_PROMPTS, Teacher

if TYPE_CHECKING:
    from _schedules_study import Study

DISTANCE = Teacher()
"""The metric whose values the rows have."""


def show(study: Study, stages: Sequence[str]) -> None:
    """The tables of some stages."""
    makers: dict[str, Callable[[Study], None]] = {
        "gamma": correlations, "table": table, "controls": controls, "guidance": guidance, "equal": equal, "fid": fids
    }  # fmt: skip
    for name in stages:
        makers[name](study)


# Distances


class Values:
    """Distances of several schedules on the test noises that all of them have. Intervals resample prompts; where the
    conditions are classes, which are all there, noises.

    Attributes:
        of: values by name.
        prompts: the prompt of each noise.
    """

    def __init__(self, study: Study, cells: Iterable[tuple[str, Cell, Schedule]], count: int) -> None:
        some = list(cells)
        rows: dict[str, list[Any]] = {}
        for name, cell, schedule in some:
            parts = study.report_parts(cell, count)
            rows[name] = [study.rows.get(study.report_job(cell, schedule, part).key) for part in parts]
        whole = [k for k in range(min(map(len, rows.values()), default=0)) if all(r[k] for r in rows.values())]
        self.of = {name: np.array([v for k in whole for v in r[k]["values"]]) for name, r in rows.items()}
        first = next(iter(rows.values()), [])
        self.prompts = [first[k]["prompt"] for k in whole for _ in first[k]["values"]]

    def change(self, name: str, base: str) -> tuple[float, float, float]:
        """The mean paired change and its interval."""
        found = metric_value(DISTANCE, torch.from_numpy(self.of[name]), torch.from_numpy(self.of[base]), self.groups)
        assert found.change is not None
        assert found.change_interval is not None
        return found.change, *found.change_interval

    def interval(self, name: str) -> tuple[float, float]:
        """Of the mean distance."""
        return metric_value(DISTANCE, torch.from_numpy(self.of[name]), groups=self.groups).interval

    @property
    def groups(self) -> list[int] | None:
        """What intervals resample together."""
        return None if model.ground.classes else self.prompts

    @property
    def about(self) -> str:
        return f"{len(self.prompts)} noises of {len(set(self.prompts))} prompts"


def before_and_after(study: Study, title: str, cells: Sequence[Cell], count: int) -> None:
    """Each start before and after VRG."""
    pairs = [(cell, before_of(cell)) for cell in cells if cell.variant == "vrg"]
    lines, numbers = [], set()
    for cell, base in pairs:
        after, before = study.tuned(cell), study.tuned(base)
        if after is None or before is None:
            continue
        chosen = [("after", cell, after.option.schedule), ("before", base, before.option.schedule)]
        values = Values(study, chosen, count)
        if not values.prompts:
            continue
        change, low, high = values.change("after", "before")
        old, new = (float(values.of[name].mean()) for name in ("before", "after"))
        mark = "better" if high < 0 else "worse" if low > 0 else ""
        mark = mark if len(set(values.prompts)) >= FEWEST_PROMPTS else "too few prompts"
        numbers.add(values.about)
        figures = after.option.figures
        nfe = model.cost_of(cell.solver, after.option.schedule)
        lines.append([
            cell.solver, cell.steps, nfe, cell.start, f"{old:.4f}", f"{new:.4f}", f"{change:+.4f} {ends(low, high)}",
            mark, after.option.name.split()[1], f"{figures['cpe_before']:.3f} -> {fits.cpe_after(figures):.3f}",
        ])  # fmt: skip
    if not lines:
        return
    columns = ["solver", "K", "NFE", "start", "before", "VRG", "change, 95 %", "", "gamma", "CPE"]
    about = f"distance to the {study.given.teacher}-step image of the same noise"
    heading(f"{title}: {about}; {', '.join(sorted(numbers))}", columns)
    for one in lines:
        line(*one)
    better, worse = (sum(one[7] == mark for one in lines) for mark in ("better", "worse"))
    print(f"\nVRG is nearer in {better} of {len(lines)} cells, farther in {worse}, and undecided in the rest.")


def table(study: Study) -> None:
    before_and_after(study, f"Guidance {study.given.guidance:g}", study.table_cells(), study.given.distance_count)


def guidance(study: Study) -> None:
    before_and_after(study, "Without guidance", study.guidance_cells(), study.given.distance_count)


# Controls


def controls(study: Study) -> None:
    panels = []
    for steps in study.given.control_steps:
        for solver in study.given.control_solvers:
            lines = controls_of(study, solver, steps)
            if lines:
                panels.append((f"{study.given.model}, {solver}, {steps} steps", lines))
    if panels and study.given.plot is not None:
        plot(panels, study.given.plot)


COLOURS = {"named": "#6a737d", "fitted": "#d9480f", "control": "#74a9cf"}


def plot(panels: Sequence[tuple[str, Sequence[tuple[str, str, float, float, float]]]], file: Path) -> None:
    """A panel a title, a line a schedule: (name, kind, distance, its interval's ends)."""
    rows = max(len(lines) for _, lines in panels)
    figure = Figure(figsize=(5.2 * len(panels), 0.24 * rows + 1.1), layout="constrained")
    for place, (title, lines) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for n, (_, kind, value, low, high) in enumerate(lines):
            axes.plot([low, high], [n, n], color=COLOURS[kind], linewidth=1.2)
            axes.plot([value], [n], "o", color=COLOURS[kind], markersize=5)
        axes.set_yticks(range(len(lines)), [name for name, *_ in lines], fontsize=8)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="#e1e4e8", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("distance to the many-step image (lower is better)", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
    handles = [Line2D([], [], color=colour, marker="o", label=kind) for kind, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(file, dpi=110)


def kind_of(cell: Cell) -> str:
    return "named" if cell.variant == "before" else "fitted" if cell.variant in FITTED else "control"


def controls_of(study: Study, solver: str, steps: int) -> list[tuple[str, str, float, float, float]]:
    """All schedules of one solver and number of steps, beside the tuned winner; the lines of a plot."""
    cells = study.control_cells(solver, steps)
    found = [(cell, study.tuned(cell)) for cell in cells]
    known = {cell.label: (cell, tuned) for cell, tuned in found if tuned is not None}
    chosen = [(name, cell, tuned.option.schedule) for name, (cell, tuned) in known.items()]
    chosen = [one for one in chosen if started(study, one[1], one[2])]
    values = Values(study, chosen, study.given.control_count)
    winner = study.best(cells, FITTED)
    if not values.prompts or winner is None or winner[0].label not in values.of:
        return []
    best = winner[0].label
    columns = ["schedule", "NFE", "tuning", "distance", "winner's change against it, 95 %", "setting"]
    heading(f"Controls: {solver}, {steps} steps, guidance {study.given.guidance:g}, {values.about}", columns)
    beaten, lines = [], []
    for name in sorted(values.of, key=lambda name: float(values.of[name].mean())):
        cell, tuned = known[name]
        change = ""
        lines.append((name, kind_of(cell), float(values.of[name].mean()), *values.interval(name)))
        if name != best:
            mean, low, high = values.change(best, name)
            change = f"{mean:+.4f} {ends(low, high)}"
            beaten += [(high < 0, name)] if cell.variant == "before" else []
        mark = " **(tuned winner)**" if name == best else ""
        nfe = model.cost_of(solver, tuned.option.schedule)
        line(name + mark, nfe, f"{tuned.value:.4f}", f"{values.of[name].mean():.4f}", change, tuned.option.name)
    lacking = [cell.label for cell, tuned in found if tuned is None]
    not_beaten = [name for won, name in beaten if not won]
    print(f"\nThe tuned winner, {best}, is nearer than {len(beaten) - len(not_beaten)} of {len(beaten)} named schedules"
          f" with an interval below 0{'; not than ' + ', '.join(not_beaten) if not_beaten else ''}.")  # fmt: skip
    if lacking:
        print(f"Not there for {steps} steps, or not measured yet: {', '.join(lacking)}.")
    return lines


def started(study: Study, cell: Cell, schedule: Schedule) -> bool:
    """Whether a schedule has been measured at all; one that lacks everything is left out."""
    parts = study.report_parts(cell, study.given.control_count)
    return study.report_job(cell, schedule, parts[0]).key in study.rows


# The fall of the cumulative error, and what it says


def correlations(study: Study) -> None:
    """Over every VRG fit that was measured, whichever gamma was chosen later."""
    cells = [*study.table_cells(), *study.guidance_cells()]
    cells += [c for s in study.given.control_solvers for k in study.given.control_steps
              for c in study.control_cells(s, k)]  # fmt: skip
    drops = {}
    for cell in dict.fromkeys(cells):
        if cell.variant not in ("vrg", "vrg, start held"):
            continue
        base = study.options(before_of(cell))
        old = study.tuning_value(before_of(cell), base[0]) if base else None
        for one in study.options(cell) if old else []:
            new = study.tuning_value(cell, one)
            if new is not None:
                key = study.tuning_jobs(cell)[0].solver, cell.guidance, one.schedule.digest
                drops[key] = (cell.variant, fall(one), 1 - new / old)
    if len(drops) < 3:
        return
    print("\nDoes a fall of the cumulative error (CPE) mean nearer images? Relative drops of every fit, all gammas,")
    print("on the dev noises that chose gamma by the distance:\n")
    for title, wanted in (("all fits", ("vrg", "vrg, start held")), ("start free", ("vrg",)),
                          ("start held", ("vrg, start held",))):  # fmt: skip
        some = np.array([one[1:] for one in drops.values() if one[0] in wanted])
        if len(some) > 2:
            print(f"- {title}: {correlation(some)}; the distance fell in {int((some[:, 1] > 0).sum())} of {len(some)}")


# Equal seconds


def equal(study: Study) -> None:
    """Arms on the prompts that all have, against the default steps."""
    given = study.given
    arms = study.arms()
    held: dict[str, dict[str, Any]] = {arm.name: {} for arm in arms}
    for arm, prompt, seed in study.equal_jobs():
        row = study.rows.get(arm.key(prompt, seed, given.equal_seconds, given.guidance))
        if row is not None:
            held[arm.name][prompt] = row
    prompts = [one for one in next(iter(held.values())) if all(one in found for found in held.values())]
    if not prompts:
        return
    heading(f"Best-of-N in {given.equal_seconds:g} s, {len(prompts)} test prompts, verifier shapes-clip, judged by the"
            " oracle; changes against the first line",
            ["arm", "score", "change, 95 %", "success", "change, 95 %", "grade", "change, 95 %", "images",
             "seconds an arm"])  # fmt: skip
    first = arms[0].name
    for name, found in held.items():
        cells: list[str] = []
        for key, scale in (("score", 1.0), ("right", 100.0), ("grade", 100.0)):
            values, base = (np.array([scale * float(one[p][key]) for p in prompts]) for one in (found, held[first]))
            low, high = interval(values, base)
            change = f"{(values - base).mean():+.1f} {ends(low, high, 1)}" if name != first else ""
            cells += [f"{values.mean():.1f}", change]
        images, seconds = (np.array([found[p][key] for p in prompts]) for key in ("images", "seconds"))
        line(name, *cells, f"{images.mean():.1f}", f"{seconds.mean():.1f} ({seconds.min():.1f}-{seconds.max():.1f})")
