"""Scoring jobs: verifiers and judges, asked about images, and what becomes of those that fail."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.executors.protocol import Outcome, ScoreJob, nothing_metered
from noisewright.images.frames import batched, cut
from noisewright.outside.texts import clean_all
from noisewright.verifiers.protocol import Verifier, WantsPreviews, details_of, score_whole
from noisewright.verifiers.retry import TimeIsUp, deadline


def ask_all(verifiers: Mapping[str, Verifier], job: ScoreJob) -> Outcome:
    """The scores of all the verifiers of a job.

    Raises:
        VerifierFailed: where one fails that never gave a number, unless it fails on a single image and has
            chances left: then it gives NaN, and :attr:`Outcome.doubt` says why.
    """
    began = time.perf_counter()
    found = Outcome()
    details: dict[str, Any] = {}
    for name in job.names:
        verifier = verifiers[name]
        found = _ask(verifier, job, began, found)
        given = _details(verifier, job)
        if given is not None:
            details[name] = given
    return _timed(replace(found, details=details), began)


def _ask(verifier: Verifier, job: ScoreJob, began: float, before: Outcome) -> Outcome:
    """``before`` with one verifier's scores added."""
    count, doubt, notes = len(job.images), before.doubt, before.notes
    scores = [math.nan] * count
    if isinstance(verifier, WantsPreviews) and job.previews is None:
        missing = f"verifier {verifier.name} has no preview of some candidates, which begin after it; NaN for those"
        notes = (*notes, missing)
    else:
        try:
            with _left(job, began):
                scores = _scores(verifier, job, job.previews)
        except TimeIsUp as error:
            doubt = error if job.patient else doubt
            notes = (*notes, f"{error} (NaN for {count} images)")
        except VerifierFailed as error:
            if verifier.name not in job.proven:
                if not job.chances or count > 1:
                    raise
                doubt = error
            notes = (*notes, f"{error} (NaN for {count} images, perhaps for more later)")
    return replace(before, scores={**before.scores, verifier.name: scores}, doubt=doubt, notes=notes)


def judge(judges: Mapping[str, Verifier], job: ScoreJob) -> Outcome:
    """The scores of a judge, or why it failed: a result stands without it."""
    began = time.perf_counter()
    (name,) = job.names
    verifier = judges[name]
    try:
        with _left(job, began):
            scores = _scores(verifier, job, None)
    except VerifierFailed as error:
        return _timed(Outcome(failed=str(error)), began)
    given = _details(verifier, job)
    details = {} if given is None else {name: given}
    return _timed(Outcome(scores={name: scores}, details=details), began)


def _scores(verifier: Verifier, job: ScoreJob, previews: Tensor | None) -> list[float]:
    """One score for each image; of a strip of frames the mean of theirs, NaN where one has none."""
    if job.frames == 1:
        return score_whole(verifier, job.images, job.prompt, job.whole, previews)
    seen = None if previews is None else cut(previews, job.frames)
    found = score_whole(verifier, cut(job.images, job.frames), job.prompt, _each(job), seen)
    return [math.fsum(some) / job.frames for some in batched(found, job.frames)]


def _details(verifier: Verifier, job: ScoreJob) -> list[Any] | None:
    """What a verifier says of each image beside its score; of a strip of frames a list of what it says of each."""
    if not job.wants_details:
        return None
    if job.frames == 1:
        given = details_of(verifier, job.images, job.prompt, job.whole)
        return None if given is None else clean_all(given)
    given = details_of(verifier, cut(job.images, job.frames), job.prompt, _each(job))
    return None if given is None else [list(some) for some in batched(clean_all(given), job.frames)]


def _each(job: ScoreJob) -> list[bool]:
    """The flags of a job's images, for each of their frames."""
    return [one for one in job.whole for _ in range(job.frames)]


@contextmanager
def _left(job: ScoreJob, began: float) -> Iterator[None]:
    """A deadline for servers: what is left of the job's time."""
    left = None if job.seconds is None else max(job.seconds - (time.perf_counter() - began), job.shortest)
    with deadline(left):
        yield


def _timed(found: Outcome, began: float) -> Outcome:
    took = time.perf_counter() - began
    metered = nothing_metered()
    metered["seconds"]["verify"] = round(took, 6)
    return replace(found, metered=metered, took=took)
