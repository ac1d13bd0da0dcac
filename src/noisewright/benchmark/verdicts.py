"""What a comparison says, in sentences: how large, how sure, of how many prompts, and among how many comparisons."""

from __future__ import annotations

import math

from noisewright.benchmark.compared import COSTS, Compared, Difference, OverOptimised, Point
from noisewright.evaluate.numbers import decimals, written
from noisewright.evaluate.words import plural

PLAIN = "plain"
"""What the image without a search is called."""

CALLED = {"nfe": "NFE"}
"""Costs by what they are called in sentences, where that is not their name."""


def with_interval(mean: float, low: float, high: float, *, signed: bool = True) -> str:
    """``+0.031 [+0.012, +0.050]``: a mean and its 95 % interval, with as many decimals as that deserves.

    Args:
        mean: ``nan`` where there is none.
        low: NaN where there is no interval, which is left out then.
        high: upper end.
        signed: whether it is a difference.
    """
    places = max(0, decimals([mean, low, high]) - 1)

    def one(value: float) -> str:
        text = written(value, places)
        return text if not signed or text.startswith("-") or math.isnan(value) else f"+{text}"

    return one(mean) if math.isnan(low) else f"{one(mean)} [{one(low)}, {one(high)}]"


def how_many(difference: Difference) -> str:
    """``40 prompts``, ``40 prompts (120 pairs)``, ``8 seeds of one prompt``."""
    if difference.prompts == 1:
        return "one prompt and seed" if difference.n == 1 else f"{difference.n} seeds of one prompt"
    pairs = "" if difference.n == difference.prompts else f" ({difference.n} pairs)"
    return f"{plural(difference.prompts, 'prompt')}{pairs}"


def sentence(difference: Difference, first: str, second: str, by: str, *, unit: str | None = None) -> str:
    """What a difference says of two methods, in one sentence.

    Only what stands after Holm's correction, and whose interval excludes 0, is said to be so.

    Args:
        difference: of the first to the second.
        first: what the first is called, as ``zero-order``.
        second: what the second is called, as ``random``.
        by: the score, as ``shapes-oracle``; or the cost, as ``seconds``.
        unit: of a cost; None of a score, of which more is better.
    """
    if not difference.n:
        return f"nothing can be said of {first} against {second} by {by}: no prompt has a number of both"
    if unit is not None and difference.mean == difference.low == difference.high == 0:
        return f"{first} and {second} take the same {by} over {how_many(difference)}"
    size = with_interval(difference.mean, difference.low, difference.high) + (f" {unit}" if unit else "")
    size = f"{size} over {how_many(difference)}"
    if difference.missing:
        size += f", {plural(difference.missing, 'pair')} without a number left out"
    if math.isnan(difference.p):
        return f"{first} against {second} by {by}: {size}, too few to say more"
    test = f"p = {_p(difference.adjusted)}"
    if difference.tests > 1:
        test += f" after Holm's correction over {difference.tests} comparisons"
    is_cost = unit is not None
    up, down = ("takes more", "takes less") if is_cost else ("is better", "is worse")
    than = f"{by} than {second}" if is_cost else f"than {second} on {by}"
    if difference.stands and difference.excludes_zero:
        return f"{first} {up if difference.mean > 0 else down} {than}: {size} ({test})"
    if difference.stands or difference.excludes_zero:
        may = (up if difference.mean > 0 else down).replace("takes", "take").replace("is ", "be ")
        disagree = difference.stands or difference.tests == 1
        why = "the test and the interval disagree" if disagree else "it does not stand"
        return f"{first} may {may} {than}, but {why}: {size} ({test})"
    return f"no difference is seen between {first} and {second} on {by}: {size} ({test})"


def _p(value: float) -> str:
    return "1" if value >= 0.9995 else f"{value:.4f}" if value < 0.001 else f"{value:.3f}"


def verdicts(compared: Compared, score: str | None = None, *, costs: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A sentence for each point: against its reference where it has one, else against the plain baseline.

    Args:
        compared: the comparisons.
        score: by which; by default the one that decides.
        costs: some of ``nfe, seconds, images``: a sentence for each too, where there is a reference.
    """
    by = compared.deciding if score is None else score
    said = []
    for point in compared.points:
        measured = point.scores.get(by) if by is not None else None
        if measured is None or by is None:
            continue
        if point.reference is not None:
            other = compared.points[point.reference]
            first, second = told_apart(compared, point, other)
            if measured.against is not None:
                said.append(sentence(measured.against, first, second, by))
            for name in costs:
                against = point.costs[name].against
                if against is not None:
                    said.append(sentence(against, first, second, CALLED.get(name, name), unit=COSTS[name]))
        elif measured.gain is not None and not _is_reference(compared, point):
            said.append(sentence(measured.gain, point.label, PLAIN, by))
    return tuple(said)


def _is_reference(compared: Compared, point: Point) -> bool:
    return any(one.reference == point.number for one in compared.points)


def told_apart(compared: Compared, point: Point, other: Point) -> tuple[str, str]:
    """Two points by those labels that differ, with the others in brackets: ``zero-order (16 images)``, ``random``."""
    differ = [name for name in point.labels if point.labels[name] != other.labels.get(name)]
    alike = [point.labels[name] for name in compared.varied if name not in differ]
    first, second = (", ".join(one.labels[name] for name in differ) or one.label for one in (point, other))
    return (f"{first} ({', '.join(alike)})" if alike and differ else first), second


def warnings_of(compared: Compared) -> tuple[str, ...]:
    """What a reader must know before the numbers: what failed, what was left out, what is not there yet."""
    said = []
    if compared.failed:
        said.append(f"{plural(compared.failed, 'cell')} of {compared.cells} failed")
    if compared.waiting:
        said.append(f"{plural(compared.waiting, 'cell')} of {compared.cells} not done yet")
    if compared.prompts_left_out and compared.done:
        said.append(
            f"{plural(compared.prompts_left_out, 'prompt')} left out of the comparison: not every point has them"
        )
    if compared.ignored:
        said.append(f"{plural(compared.ignored, 'row')} of no point of this grid left out")
    if compared.over == "seeds" and compared.pairs > 1:
        said.append("one prompt only: intervals and tests speak of its seeds, not of other prompts")
    elif compared.done and compared.pairs < 2:
        said.append("one prompt and seed only: no intervals and no tests")
    return tuple(said)


def over_optimised_sentence(one: OverOptimised, compared: Compared) -> str | None:
    """Where a verifier's score rises while a judge falls; None where that is seen nowhere."""
    if not one.marked:
        return None
    first = one.marked[0]
    point = compared.points[first.point]
    since = "over the plain baseline" if first.since == "baseline" else "from the point before"
    gains = [point.scores[name].gain for name in (one.verifier, one.judge)]
    sizes = ["" if gain is None else f" ({with_interval(gain.mean, gain.low, gain.high)})" for gain in gains]
    if first.since != "baseline":
        sizes = ["", ""]
    more = f", and at {plural(len(one.marked) - 1, 'more point')}" if len(one.marked) > 1 else ""
    return f"{point.label}: {one.verifier} rises{sizes[0]} while {one.judge} falls{sizes[1]} {since}{more}"
