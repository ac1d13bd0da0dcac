"""A draft is proved before it is used: some candidates are made both ways, and what they say decides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noisewright.measures.order_statistics import expected_best, expected_best_of_drafts
from noisewright.measures.paired import spearman
from noisewright.run.particle import Candidate, Particle
from noisewright.run.verbs import Run
from noisewright.run.ways import in_full
from noisewright.schemas.drafts import LEAST_PILOT


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
        took = seconds_each_of(run, run.full_kind, first=True)
        if too_small(run, pilot, took):
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
    return run.finish(noises), finish_in_full(run, noises)


def finish_in_full(run: Run, particles: Sequence[Particle]) -> list[Candidate]:
    """As :meth:`Run.finish`, of what drafts are drafts of: their full images, from the same noise."""
    return run.finish(in_full_of(run, particles), run.final)


def in_full_of(run: Run, particles: Sequence[Particle]) -> list[Particle]:
    """What drafts of a run are drafts of."""
    return [in_full(one, run.full_kind[0]) for one in particles]


def full_images(run: Run, seconds_each: float | None) -> float:
    """How many full images what is left of the budget would make.

    Args:
        run: whose budget it is.
        seconds_each: of one, where that was measured.
    """
    budget, spent = run.budget, run.spent
    each = run.final.nfe(0, run.final.schedule.steps)
    left = [math.inf]
    if budget.images is not None:
        left.append(budget.images - spent.images)
    if budget.nfe is not None:
        left.append((budget.nfe - spent.nfe) / each)
    if budget.seconds is not None and seconds_each:
        left.append((budget.seconds - run.elapsed) / seconds_each)
    return max(0.0, min(left))


def too_small(run: Run, pilot: int, seconds_each: float | None = None) -> bool:
    """Whether a budget is too small for a pilot to pay: it would be spent on the pilot for the most part."""
    return full_images(run, seconds_each) < 2 * pilot + run.finalists


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
    ratio = each / each_in_full
    count = full_images(run, each_in_full)
    of_drafts = max(0.0, count - run.finalists) / ratio
    gain = expected_best_of_drafts(of_drafts + len(pairs), run.finalists, correlation)
    gain_in_full = expected_best(count + len(pairs))
    return found | {
        "used": gain > gain_in_full, "correlation": round(correlation, 4), "ratio": round(ratio, 4),
        "drafts": round(of_drafts, 1), "full": round(count, 1), "gain": round(gain, 4),
        "gain_in_full": round(gain_in_full, 4), "shift": _shift(drafts, full),
    }  # fmt: skip


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation; 0 where one of them is constant."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return 0.0
    found = float(spearman(np.asarray(one)[:, None], np.asarray(other)[:, None])[0])
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


def seconds_each_of(run: Run, kind: tuple[int, str | None], first: bool = False) -> float | None:
    """Seconds of an image of a kind, from the journal's lines; None where nothing was measured.

    Args:
        run: the run.
        kind: of its particles.
        first: whether the first image of the run counts, which also warms up.
    """
    ledger, baseline = run.ledger, run.baseline
    seconds, images = 0.0, set()
    for ids, took in ledger.timed:
        warming = baseline is not None and ids == (baseline.id,)
        known = ids[0] in ledger.particles and ledger.particles[ids[0]].kind == kind
        if known and (first or not warming):
            seconds += took
            images |= set(ids)
    return seconds / len(images) if images and seconds else None


def in_words(found: Mapping[str, Any]) -> str:
    """What a pilot said, with its figures, for people."""
    head = f"draft {found['draft']} is {'used' if found['used'] else 'not used'}"
    if "gain" not in found:
        why = "the budget is too small to prove it" if not found["pilot"] else "too few candidates have a score"
        return f"{head}: {why}, and the search goes on in full"
    return (
        f"{head}: over {found['pilot']} candidates made both ways it ranks as full images do by "
        f"{found['correlation']:.2f} (Spearman) and takes {found['ratio']:.2f} of their seconds; in the seconds of "
        f"{found['full']:.0f} full images the best of {found['drafts']:.0f} drafts is expected {found['gain']:.2f} "
        f"deviations above the mean, the best in full {found['gain_in_full']:.2f}"
    )
