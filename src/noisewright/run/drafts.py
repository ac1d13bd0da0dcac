"""A draft is proved before it is used: some candidates are made both ways, and what they say decides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisewright.measures.order_statistics import expected_best, expected_best_of_drafts
from noisewright.measures.paired import spearman
from noisewright.run.budget import Budget
from noisewright.run.particle import Candidate, Particle
from noisewright.run.verbs import Run
from noisewright.run.ways import in_full
from noisewright.schemas.drafts import LEAST_PILOT


@dataclass(frozen=True)
class Price:
    """What an image costs: in NFE, and in seconds of the worker that makes it, 0 where nobody measured them."""

    nfe: float
    seconds: float


@dataclass(frozen=True)
class Left:
    """What is left of a budget; without end where it has no such limit.

    Attributes:
        images: finished images, of whatever kind.
        nfe: guided evaluations.
        seconds: of workers: those of the clock, times how many work at a time.
    """

    images: float = math.inf
    nfe: float = math.inf
    seconds: float = math.inf

    @classmethod
    def of(cls, budget: Budget, workers: int = 1) -> Left:
        """All of a budget."""
        images, nfe, seconds = (
            math.inf if one is None else one for one in (budget.images, budget.nfe, budget.seconds)
        )
        return cls(images, nfe, seconds * workers)

    def less(self, count: float, each: Price) -> Left:
        """What is left after so many images."""
        return Left(self.images - count, self.nfe - count * each.nfe, self.seconds - count * each.seconds)

    def buys(self, each: Price) -> float:
        """How many images of a price this is: by each limit what they cost of it, the smallest number counts."""
        found = [self.images]
        if each.nfe > 0:
            found.append(self.nfe / each.nfe)
        if each.seconds > 0:
            found.append(self.seconds / each.seconds)
        return max(0.0, min(found))


def prove(run: Run, pilot: int) -> None:
    """Make ``pilot`` candidates both ways, and let the run search in full where drafts do not pay.

    The image of the run's seed is made in full first, whatever comes of it. What is found is in the journal, so that a
    run which is continued goes on as it began.

    Args:
        run: which has not begun its search; one without drafts is left alone.
        pilot: P; 0 proves nothing, and drafts are used.

    Raises:
        BudgetExhausted: where the budget ends it before.
    """
    if run.draft is None:
        return
    found = run.ledger.proof
    if found is None:
        run._engine.finish(in_full_of(run, [run.noise_of(run.seed)]), run.final, reserved=True)
        if not pilot:
            return
        if too_small(run, pilot):
            found = {"verb": "prove", "draft": run.draft, "used": False, "pilot": 0}
        else:
            found = _judged(run, *both_ways(run, pilot))
        run._engine.recorder.append(found)
        found = run.ledger.proof or found
    if not found["used"]:
        run.search_in_full()
    run.say(in_words(found))


def both_ways(run: Run, pilot: int) -> tuple[list[Candidate], list[Candidate]]:
    """The first ``pilot`` candidates as drafts and in full."""
    noises = [run.noise_of(run.seed + k) for k in range(pilot)]
    with run._engine.in_whole_batches():
        return run.finish(noises), finish_in_full(run, noises)


def finish_in_full(run: Run, particles: Sequence[Particle]) -> list[Candidate]:
    """As :meth:`Run.finish`, of what drafts are drafts of: their full images, from the same noise."""
    return run.finish(in_full_of(run, particles), run.final)


def in_full_of(run: Run, particles: Sequence[Particle]) -> list[Particle]:
    """What drafts of a run are drafts of."""
    return [in_full(one, run.full_kind[0]) for one in particles]


def too_small(run: Run, pilot: int) -> bool:
    """Whether a budget is too small for a pilot to pay: it would be spent on the pilot for the most part.

    By what was left after the baseline alone, so that a run which goes on in the middle of its pilot says the same.
    """
    baseline = run.baseline
    alone = () if baseline is None else (baseline.id,)
    seconds = sum(took for ids, took in run.ledger.timed if ids == alone)
    full = Price(run.final.nfe(0, run.final.schedule.steps), seconds)
    return Left.of(run.budget, _at_once(run)).less(1, full).buys(full) < 2 * pilot + run.finalists


def _left_of(run: Run) -> Left:
    """What is left of a run's budget now."""
    whole, spent = Left.of(run.budget, _at_once(run)), run.spent
    return Left(whole.images - spent.images, whole.nfe - spent.nfe, whole.seconds - run.elapsed * _at_once(run))


def _at_once(run: Run) -> int:
    """How many workers make images at a time: with a target one, for nothing may be made after what reaches it."""
    return 1 if run.target.scores else run.executor.workers


def _judged(run: Run, drafts: Sequence[Candidate], full: Sequence[Candidate]) -> dict[str, Any]:
    """What a pilot says."""
    pairs = [pair for pair in zip(run.value(drafts), run.value(full), strict=True) if all(map(math.isfinite, pair))]
    found: dict[str, Any] = {"verb": "prove", "draft": run.draft, "used": False, "pilot": len(pairs)}
    if len(pairs) < LEAST_PILOT:
        return found
    correlation = rank_correlation([one for one, _ in pairs], [other for _, other in pairs])
    each, each_in_full = seconds_each_of(run, run.kind), seconds_each_of(run, run.full_kind)
    if not each or not each_in_full:
        return found
    left = _left_of(run)
    draft, in_full = (Price(nfe_each_of(run, kind), took) for kind, took in (
        (run.kind, each), (run.full_kind, each_in_full)
    ))  # fmt: skip
    count = left.buys(in_full)
    of_drafts = left.less(run.finalists, in_full).buys(draft)
    gain = expected_best_of_drafts(of_drafts + len(pairs), run.finalists, correlation)
    gain_in_full = expected_best(count + len(pairs))
    return found | {
        "used": gain > gain_in_full, "correlation": round(correlation, 4), "ratio": round(each / each_in_full, 4),
        "drafts": round(of_drafts, 1), "full": round(count, 1), "gain": round(gain, 4),
        "gain_in_full": round(gain_in_full, 4), "shift": _shift(drafts, full),
    }  # fmt: skip


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation of those that both have a number of; 0 where that says nothing."""
    if not len(one):
        return 0.0
    found = float(spearman(np.asarray(one, dtype=float)[:, None], np.asarray(other, dtype=float)[:, None])[0])
    return found if math.isfinite(found) else 0.0


def _shift(drafts: Sequence[Candidate], full: Sequence[Candidate]) -> dict[str, float]:
    """By how much each verifier's score of a full image is above its draft's, on average."""
    found = {}
    for name in full[0].scores:
        apart = [b.scores[name] - a.scores[name] for a, b in zip(drafts, full, strict=True)]
        finite = [value for value in apart if math.isfinite(value)]
        if finite:
            found[name] = round(math.fsum(finite) / len(finite), 6)
    return found


def seconds_each_of(run: Run, kind: tuple[int, str | None]) -> float | None:
    """Seconds of an image of a kind, from the journal's lines; None where nothing was measured.

    The first image of the run does not count, which also warms up.
    """
    ledger, baseline = run.ledger, run.baseline
    seconds, images = 0.0, set()
    for ids, took in ledger.timed:
        warming = baseline is not None and ids == (baseline.id,)
        known = ids[0] in ledger.particles and ledger.particles[ids[0]].kind == kind
        if known and not warming:
            seconds += took
            images |= set(ids)
    return seconds / len(images) if images and seconds else None


def nfe_each_of(run: Run, kind: tuple[int, str | None]) -> float:
    """NFE of an image of a kind, from the journal's lines: of what a cache answers nobody knows it before."""
    nfe, images = 0, 0
    for ids, evaluations in run.ledger.evaluated:
        if ids[0] in run.ledger.particles and run.ledger.particles[ids[0]].kind == kind:
            nfe, images = nfe + evaluations, images + len(ids)
    return nfe / images if images else 0.0


def in_words(found: Mapping[str, Any]) -> str:
    """What a pilot said, with its figures, for people."""
    head = f"draft {found['draft']} is {'used' if found['used'] else 'not used'}"
    if "gain" not in found:
        why = "the budget is too small to prove it" if not found["pilot"] else "too few candidates have a score"
        return f"{head}: {why}, and the search goes on in full"
    return (
        f"{head}: over {found['pilot']} candidates made both ways it ranks as full images do by "
        f"{found['correlation']:.2f} (Spearman) and takes {found['ratio']:.2f} of their seconds; the budget "
        f"buys {found['drafts']:.0f} drafts, whose best is expected {found['gain']:.2f} deviations above the mean, or "
        f"{found['full']:.0f} full images, whose best {found['gain_in_full']:.2f}"
    )
