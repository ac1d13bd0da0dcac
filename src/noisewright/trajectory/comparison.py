"""What a comparison of schedules found: values with intervals, changes against the first schedule, as text and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.trajectory.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class MetricValue:
    """A metric of one schedule.

    Attributes:
        value: its number over all noises.
        interval: 95 % of it.
        missing: images without a value.
        change: from the first schedule, on the same noises; None of the first itself.
        change_interval: 95 % of that.
    """

    value: float
    interval: tuple[float, float]
    missing: int
    change: float | None = None
    change_interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; the first schedule has no change."""
        found: dict[str, Any] = {"value": self.value, "interval": list(self.interval), "missing": self.missing}
        if self.change is not None and self.change_interval is not None:
            found |= {"change": self.change, "change_interval": list(self.change_interval)}
        return found


def metric_value(
    metric: Metric, rows: Tensor, first: Tensor | None = None, groups: Sequence[str | int] | None = None
) -> MetricValue:
    """A metric's value with its interval, and its change.

    Args:
        metric: of which the rows are.
        rows: what it keeps of a schedule's images; see :func:`~.metric_values`.
        first: that of the schedule which changes are counted from; None of that one itself.
        groups: what intervals resample together; see :func:`~.groups_of`.
    """
    value, interval = metric.summary(rows), metric.interval(rows, groups=groups)
    missing = int((~rows.reshape(len(rows), -1).isfinite().all(1)).sum())
    if first is None:
        return MetricValue(value, interval, missing)
    change = value - metric.summary(first)
    return MetricValue(value, interval, missing, change, metric.interval(rows, first, groups))


@dataclass(frozen=True)
class ComparedSchedule:
    """One row of a comparison.

    Attributes:
        name: as it was given.
        schedule: its levels, as they were sampled on.
        solver: what they were sampled with.
        nfe: guided network calls of an image.
        metrics: values by the metric's name.
        end: the level ``sigma / alpha`` that it ended at.
        end_as_made: where it ends by itself.
    """

    name: str
    schedule: Schedule
    solver: str
    nfe: int
    metrics: dict[str, MetricValue]
    end: float
    end_as_made: float

    @property
    def steps(self) -> int:
        return self.schedule.steps

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "schedule": self.name, "solver": self.solver, "steps": self.steps, "nfe": self.nfe,
            "metrics": {name: one.to_json() for name, one in self.metrics.items()}, "end": self.end,
            "end_as_made": self.end_as_made,
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Schedules on the same noises.

    Attributes:
        rows: a schedule each, in the order in which they were given; changes are against the first.
        lower_is_better: whether it is, by the metric's name.
        samples: noises.
        prompts: how many prompts or classes they are of.
        seed: the first.
        intervals_over: "prompts" or "noises": what the intervals resample.
        keep_ends: whether ends above the clean image were left where they are.
    """

    rows: list[ComparedSchedule]
    lower_is_better: Mapping[str, bool]
    samples: int
    prompts: int
    seed: int
    intervals_over: str
    keep_ends: bool = False

    def to_json(self) -> dict[str, Any]:
        """All of it, as ``schedule compare --json`` prints it."""
        return {
            "samples": self.samples, "seed": self.seed, "prompts": self.prompts,
            "intervals_over": self.intervals_over, "schedules": [row.to_json() for row in self.rows],
        }  # fmt: skip

    def plot(self, file: str | Path | None = None) -> Figure:
        """A panel a metric: a point and its interval for each schedule; a figure of matplotlib's.

        Args:
            file: where to write it too, a .png, .pdf or .svg.
        """
        from noisewright.trajectory.comparison_plot import plot

        return plot(self, file)

    @property
    def titles(self) -> dict[str, str]:
        """Each metric's name with the way in which it is better."""
        return {
            name: f"{name} ({'lower' if low else 'higher'} is better)" for name, low in self.lower_is_better.items()
        }

    @property
    def notes(self) -> list[str]:
        """What the numbers rest on."""
        prompts = f"{self.prompts} prompt{'s' if self.prompts > 1 else ''}"
        found = [
            f"{self.samples} noises of {prompts} from seed {self.seed}; 95 % intervals, over {self.intervals_over}; "
            f"changes are paired, against {self.rows[0].name}"
        ]
        if len({row.nfe for row in self.rows}) > 1:
            found.append("the rows differ in NFE, the network calls of an image: compare at equal cost")
        for row in self.rows:
            if row.end_as_made > 0:
                how = "ends" if self.keep_ends else "was brought to the clean image; as made it ends"
                leave = "" if self.keep_ends else " (--keep-ends leaves it there)"
                found.append(f"{row.name} {how} at s = {row.end_as_made:.4g}{leave}")
        return found

    def cells(self, row: ComparedSchedule) -> list[str]:
        """A row for people: name, solver, steps, NFE, and each metric's value, interval, change and what is missing."""
        found = [row.name, row.solver, str(row.steps), str(row.nfe)]
        for name in self.lower_is_better:
            found.append(_cell(row.metrics[name], self.samples))
        return found

    def __str__(self) -> str:
        table = [["schedule", "solver", "steps", "NFE", *self.titles.values()], *(self.cells(row) for row in self.rows)]
        widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([*lines, "", *self.notes])


def _cell(found: MetricValue, samples: int) -> str:
    low, high = found.interval
    text = f"{found.value:.4g} [{low:.4g}, {high:.4g}]"
    if found.change is not None and found.change_interval is not None:
        low, high = found.change_interval
        text += f"  change {found.change:+.3g} [{low:+.3g}, {high:+.3g}]"
    if found.missing:
        text += f"  ({found.missing} of {samples} images without)"
    return text
