"""What the claims are decided by: picks of a pool, paired differences with intervals, checks and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from _evidence.kept import Held, Lacking, Pool
from noisewright.benchmark.scorers import complete, judged
from noisewright.measures.bootstrap import interval
from noisewright.measures.paired import ranks

HOLDS, DOES_NOT, LARGE, WAITING = "holds", "does not hold", "needs the large model", "not measured yet"
YES, NO, OPEN = "yes", "no", "open"
DRAWS = 24
"""Random sets of candidates of each size that an ensemble picks from; single verifiers are computed over all sets."""

ENSEMBLE = ("shapes-clip", "shapes-reward", "shapes-aesthetic")
RULE = (
    "**The rule of the verdicts.** A claim is cut into checks, each the mean of paired differences (the same prompts "
    "and seeds) with its 95 % bootstrap interval over prompts, and a threshold that was set before. A check is *yes* "
    "where the whole interval is on the claim's side of the threshold, *no* where it is on the other, and *open* where "
    "it holds the threshold. A claim **does not hold** where one of its checks is no, **holds** where all of them are "
    "yes, and **needs the large model** where none is no and one is open. Where none is no and rows are lacking for a "
    "check, or were made by other weights than the bundled ones, it is **not measured yet**."
)


@dataclass(frozen=True)
class Check:
    """Something that a claim says would be so.

    Attributes:
        text: in words.
        mean: of the paired differences.
        low, high: of its 95 % interval.
        count: prompts (or draws) it is of.
        threshold: what the interval is held against.
        above: whether the claim's side is above.
        answer: ``yes``, ``no`` or ``open``.
        digits: after the point.
        unit: after the number.
    """

    text: str
    mean: float
    low: float
    high: float
    count: int
    threshold: float
    above: bool
    answer: str
    digits: int = 1
    unit: str = ""

    @property
    def line(self) -> str:
        """A row of a table of checks."""
        number = shown(self.mean, self.low, self.high, self.digits)
        side = f"{'above' if self.above else 'below'} {self.threshold:g}"
        return f"| {self.text} | {number}{self.unit and ' ' + self.unit} | {side} | {self.count} | {self.answer} |"


def shown(mean: float, low: float, high: float, digits: int = 1, sign: bool = True) -> str:
    """A mean and its interval."""
    form = f"{{:{'+' if sign else ''}.{digits}f}}"
    return f"{form.format(mean)} [{form.format(low)}, {form.format(high)}]"


def answer_of(low: float, high: float, threshold: float, above: bool) -> str:
    """Whether an interval is on the claim's side of a threshold."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return OPEN
    if low > threshold:
        return YES if above else NO
    if high < threshold:
        return NO if above else YES
    return OPEN


def check(
    text: str, differences: np.ndarray, *, above: float | None = None, below: float | None = None, scale: float = 1.0,
    digits: int = 1, unit: str = "", groups: Any = None,
) -> Check:  # fmt: skip
    """A check on paired differences.

    Args:
        text: what the claim says.
        differences: (n,) one a prompt.
        above: the threshold above which the claim wants the mean; else
        below: the one below which it does.
        scale: what the differences are multiplied with to be shown, and held against the threshold.
        digits: after the point.
        unit: of what is shown.
        groups: (n,) what is drawn together.
    """
    values = scale * np.asarray(differences, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        raise Lacking(text)
    low, high = interval(values, groups=groups)
    side = {"above": above, "below": below}
    return stated(text, float(values.mean()), low, high, len(values), **side, digits=digits, unit=unit)


def stated(
    text: str, mean: float, low: float, high: float, count: int, *, above: float | None = None,
    below: float | None = None, digits: int = 1, unit: str = "",
) -> Check:  # fmt: skip
    """A check on a mean whose interval is known."""
    threshold, upward = (above, True) if above is not None else (0.0 if below is None else below, False)
    answer = answer_of(low, high, threshold, upward)
    return Check(text, mean, low, high, count, threshold, upward, answer, digits, unit)


def verdict(checks: Sequence[Check], missing: Sequence[str]) -> str:
    """The verdict on a claim, by :data:`RULE`."""
    answers = [one.answer for one in checks]
    if NO in answers:
        return DOES_NOT
    if missing or not answers:
        return WAITING
    return HOLDS if set(answers) == {YES} else LARGE


# Picks of a pool


def picked(pool: Pool, picker: str, count: int, names: Sequence[str]) -> np.ndarray:
    """What the pick of ``count`` candidates is worth, (prompts, names): the mean over all sets of that size.

    Args:
        pool: of candidates.
        picker: a scorer's name, several joined by `` + `` (their mean rank within the set), or ``ensemble``: that of
            :data:`ENSEMBLE`.
        count: how many there are to choose from.
        names: scorers, or ``success``.
    """
    values = complete(np.stack([pool.of(name) for name in names], 2))
    members = ENSEMBLE if picker == "ensemble" else picker.split(" + ")
    if len(members) > 1:
        return _by_ranks(pool, members, count, values)
    return judged(values, [pool.of(picker)], count)[:, 0]


def _by_ranks(pool: Pool, names: Sequence[str], count: int, values: np.ndarray) -> np.ndarray:
    """As :func:`picked`, over :data:`DRAWS` random sets: ranks are those within the set."""
    generator = np.random.default_rng(0)
    members = np.stack([pool.of(name) for name in names], 2)
    prompts, most, _ = members.shape
    if count > most:
        return np.full((prompts, values.shape[2]), np.nan)
    found = np.zeros((prompts, values.shape[2]))
    for _ in range(1 if count == most else DRAWS):
        order = np.argsort(generator.random((prompts, most)), 1)[:, :count]
        order = np.sort(order, 1)  # equal ones: the earlier candidate
        some = np.take_along_axis(members, order[:, :, None], 1)
        mean = sum(ranks(some[:, :, k].T).T for k in range(some.shape[2]))
        best = np.take_along_axis(order, np.argmax(mean, 1)[:, None], 1)
        found += np.take_along_axis(values, best[:, :, None], 1)[:, 0]
    return found / (1 if count == most else DRAWS)


# Sections


@dataclass(frozen=True)
class Section:
    """What the page says of a claim.

    Attributes:
        number: of the claim.
        title: the claim, in a sentence.
        source: what the source reports, in Markdown.
        blocks: what was measured, in Markdown.
        checks: what decides.
        missing: what is lacking.
        commands: that make the rows.
    """

    number: int
    title: str
    source: str
    blocks: tuple[str, ...]
    checks: tuple[Check, ...]
    missing: tuple[str, ...]
    commands: tuple[str, ...]

    @property
    def verdict(self) -> str:
        return verdict(self.checks, self.missing)


Part = Callable[[Held], tuple[list[str], list[Check]]]
"""Measures a part of a claim: Markdown and checks; raises Lacking."""


def section(
    number: int, title: str, source: str, parts: Sequence[Part], commands: Sequence[str], held: Held
) -> Section:
    """A section of what is there; a part whose rows are lacking is noted."""
    blocks: list[str] = []
    checks: list[Check] = []
    missing: list[str] = []
    for part in parts:
        try:
            some, decided = part(held)
        except Lacking as error:
            missing.append(str(error))
        else:
            blocks += some
            checks += decided
    commands = tuple(commands)
    return Section(number, title, source, tuple(blocks), tuple(checks), tuple(dict.fromkeys(missing)), commands)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def mean_of(values: np.ndarray, scale: float = 1.0, digits: int = 1, sign: bool = False) -> str:
    """A mean with its interval over prompts."""
    kept = scale * values[np.isfinite(values)]
    if not len(kept):
        return "-"
    low, high = interval(kept)
    return shown(float(kept.mean()), low, high, digits, sign)
