"""What may be said of a benchmark, as values: :func:`noisewright.benchmark.comparisons.compared` makes them of rows.

Numbers that are not there are NaN: an interval of fewer than two prompts, a p of no pair, a mean of no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COSTS = {"nfe": "NFE", "seconds": "s", "images": "images", "diversity": ""}
"""What is measured of a cell beside its scores, and its unit. ``diversity`` is in [0, 1], see ``CellRow``."""

PHASES = ("encode", "denoise", "decode", "verify", "other")
"""Of a cell's seconds; ``other`` is what the total has beside the named ones."""

LEVEL = 0.05
"""A difference stands where its p, adjusted for the number of points, is below."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval: percentile bootstrap over prompts, a prompt's seeds drawn together.

    Attributes:
        mean: over cells, each counting once.
        low: lower end; NaN of fewer than two prompts (of one prompt with several seeds it is over the seeds).
        high: upper end.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A mean difference of pairs, each of one prompt and seed.

    Attributes:
        mean: in the unit of what is compared; positive where the first is higher.
        low: lower end of its 95 % interval, as in :class:`Interval`.
        high: upper end.
        n: pairs.
        prompts: that these pairs are of.
        missing: pairs that were left out since one side has no number.
        higher: share of the pairs in which the first is higher, equal ones counted half; in [0, 1].
        p: of a two-sided sign-flip permutation test over prompts.
        adjusted: p by Holm's step-down correction over the ``tests`` of the same kind.
        tests: how many points of the same score were tested, this one included.
        stands: whether ``adjusted`` is below :data:`LEVEL`.
    """

    mean: float
    low: float
    high: float
    n: int
    prompts: int
    missing: int
    higher: float
    p: float
    adjusted: float
    tests: int
    stands: bool

    @property
    def interval(self) -> Interval:
        """Its mean and interval."""
        return Interval(self.mean, self.low, self.high)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval (of this point alone, not adjusted) lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Measured:
    """A score, or a cost, at one point.

    Attributes:
        role: ``verifier`` (what the search optimised at this point), ``judge`` (what it never saw), ``other`` (a score
            that the rows have and name as neither) or ``cost``.
        n: cells with a number.
        prompts: that they are of.
        missing: cells that are done and compared, and have no number here.
        best: of the best candidate; of a cost: of the run.
        baseline: of the plain image of the same prompt and seed; None of a cost.
        gain: best minus baseline; None of a cost.
        against: best minus the best of the reference point; None where there is no reference, at the reference itself,
            and where it has no such score.
    """

    role: str
    n: int
    prompts: int
    missing: int
    best: Interval
    baseline: Interval | None = None
    gain: Difference | None = None
    against: Difference | None = None


@dataclass(frozen=True)
class InCategory:
    """A score at one point on the prompts of one category; not tested.

    Attributes:
        n: cells with a number.
        prompts: that they are of.
        best: of the best candidate.
        baseline: of the plain image.
        gain: their difference, paired.
    """

    n: int
    prompts: int
    best: Interval
    baseline: Interval
    gain: Interval


@dataclass(frozen=True)
class Point:
    """One combination of the axes' labels.

    Attributes:
        number: its place in the grid, from 0; ``Compared.points[number]``.
        labels: label by axis name.
        label: the labels of those axes that vary, joined with ", ".
        done: cells that are done.
        failed: cells that failed.
        shared: cells that were read off the run of another.
        compared: cells that all points have, which everything below is computed of.
        scores: by name of verifier or judge; only those that this point has.
        costs: ``nfe, seconds, images, diversity``.
        phases: mean seconds by phase, see :data:`PHASES`, and ``total``.
        categories: by category, then by score.
        reference: the number of the point that this one is compared with, or None.
        stopped: how many cells stopped for which reason.
    """

    number: int
    labels: Mapping[str, str]
    label: str
    done: int
    failed: int
    shared: int
    compared: int
    scores: Mapping[str, Measured]
    costs: Mapping[str, Measured]
    phases: Mapping[str, float]
    categories: Mapping[str, Mapping[str, InCategory]]
    reference: int | None
    stopped: Mapping[str, int]


@dataclass(frozen=True)
class Curve:
    """The points along ``spec.across`` with equal labels otherwise: a line of a plot.

    Attributes:
        label: the other axes' labels, as in :attr:`Point.label`.
        labels: the same by axis.
        points: numbers of points, in the order of the axis.
    """

    label: str
    labels: Mapping[str, str]
    points: tuple[int, ...]


@dataclass(frozen=True)
class Series:
    """What a plot draws: equally many numbers in each, points without a number left out.

    Attributes:
        label: of the curve.
        x: mean cost at each point (``nfe, seconds, images`` or ``diversity``).
        y: mean score (or gain).
        low: lower ends.
        high: upper ends.
        points: numbers of the points.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    points: tuple[int, ...]


@dataclass(frozen=True)
class OptimisedPoint:
    """Where a search got to along a curve, by what it optimised and by a judge.

    Both gains are over the plain baseline, in standard deviations of the baseline's score over all prompts and seeds,
    so that they can be drawn on one axis.

    Attributes:
        point: its number.
        optimised: gain of the verifier's score.
        judged: gain of the judge's.
        since: where the verifier's score rises while the judge's falls, both with intervals that exclude 0:
            ``baseline`` where that holds of the gains over the plain image, ``before`` where it holds from the point
            before on the curve to this one, else None.
    """

    point: int
    optimised: Interval
    judged: Interval
    since: str | None


@dataclass(frozen=True)
class OverOptimised:
    """A verifier against a judge along a curve (of a single point where nothing is varied along ``spec.across``).

    Attributes:
        curve: its label.
        verifier: what was optimised, alone or in an ensemble.
        judge: what was not.
        points: in the curve's order.
    """

    curve: str
    verifier: str
    judge: str
    points: tuple[OptimisedPoint, ...]

    @property
    def marked(self) -> tuple[OptimisedPoint, ...]:
        """The points with a mark."""
        return tuple(one for one in self.points if one.since is not None)


@dataclass(frozen=True)
class WallCell:
    """A cell whose images are shown.

    Attributes:
        point: the number of its point.
        which: ``largest gain``, ``median``, ``largest loss``; ``smallest gain`` where nothing was lost, ``smallest
            loss`` where nothing was gained, ``no change`` of one that is 0.
        score: the name of the score that this goes by: the first judge, else the first verifier.
        gain: by that score.
        prompt: the text.
        number: the prompt's place in its set.
        repeat: which of its seeds, from 0.
        seed: the first seed of the run.
        run: the run directory, relative to the benchmark's; None where it is not known.
        best: file of the best image, relative to the benchmark's directory.
        baseline: file of the plain one.
        best_scores: of the best image.
        baseline_scores: of the plain one.
    """

    point: int
    which: str
    score: str
    gain: float
    prompt: str
    number: int
    repeat: int
    seed: int
    run: str | None
    best: str
    baseline: str
    best_scores: Mapping[str, float | None]
    baseline_scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Failure:
    """Cells that failed in the same way.

    Attributes:
        error: one line.
        cells: how many.
        points: numbers of the points that they are of.
        prompt: of the first.
    """

    error: str
    cells: int
    points: tuple[int, ...]
    prompt: str


@dataclass(frozen=True)
class Compared:
    """What may be said of a benchmark.

    Attributes:
        name: of the spec.
        title: one line.
        axes: labels by axis name, in order.
        varied: names of the axes with more than one label.
        points: in the order of the grid.
        scores: names of scores, those that some point optimised first.
        judges: those of them that judge at some point, in order.
        deciding: the score that decides: the first judge that all points have (else the first judge, the first
            verifier); None where nothing is done.
        categories: in order of appearance; empty where prompts have none.
        over: ``prompts``, or ``seeds`` where there is but one prompt: what intervals and tests are drawn over.
        cells: of the grid.
        done: cells done.
        failed: cells failed.
        waiting: cells with no row yet.
        ignored: rows of no point of the grid.
        prompts: that are compared, with all or some of their seeds.
        prompts_left_out: prompts of the set that not every point has.
        pairs: prompts and seeds that are compared.
        pairs_left_out: those that some point is done with and another is not.
        curves: along ``across``; empty without it.
        across: the axis, or None.
        over_optimised: each verifier against each judge, along each curve.
        wall: cells to be shown, up to three a point.
        failures: the most frequent first.
    """

    name: str
    title: str
    axes: Mapping[str, tuple[str, ...]]
    varied: tuple[str, ...]
    points: tuple[Point, ...]
    scores: tuple[str, ...]
    judges: tuple[str, ...]
    deciding: str | None
    categories: tuple[str, ...]
    over: str
    cells: int
    done: int
    failed: int
    waiting: int
    ignored: int
    prompts: int
    prompts_left_out: int
    pairs: int
    pairs_left_out: int
    curves: tuple[Curve, ...]
    across: str | None
    over_optimised: tuple[OverOptimised, ...]
    wall: tuple[WallCell, ...]
    failures: tuple[Failure, ...]

    def series(self, score: str, *, x: str = "nfe", gain: bool = False) -> tuple[Series, ...]:
        """A line for each curve that has the score: its mean (or gain over the baseline) against a cost.

        Raises:
            ValueError: on another cost.
        """
        if x not in COSTS:
            raise ValueError(f"expected one of {', '.join(COSTS)} as x, got {x!r}")
        lines = []
        for curve in self.curves:
            there = [self.points[number] for number in curve.points if score in self.points[number].scores]
            found = []
            for one in there:
                measured = one.scores[score]
                value = measured.gain.interval if gain and measured.gain else measured.best
                cost = one.costs[x].best.mean if x in one.costs else float("nan")
                if value.mean == value.mean and cost == cost:
                    found.append((cost, value.mean, value.low, value.high, one.number))
            if found:
                lines.append(Series(curve.label, *zip(*found, strict=True)))
        return tuple(lines)

    def at(self, **labels: str) -> Point:
        """The one point with these labels; axes that do not vary need not be named.

        Raises:
            ValueError: where none or several have them.
        """
        found = [one for one in self.points if all(one.labels.get(name) == label for name, label in labels.items())]
        if len(found) != 1:
            raise ValueError(f"expected labels of one point, got {labels}, which {len(found)} points have")
        return found[0]
