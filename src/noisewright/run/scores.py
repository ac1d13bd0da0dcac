"""Scoring behind the verbs: whom to ask about which images, what to write of it, and when a verifier is broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.executors.optional import asks_servers, scorers_of
from noisewright.executors.protocol import Executor, Outcome, ScoreJob
from noisewright.run.ledger import Ledger
from noisewright.run.particle import Particle
from noisewright.run.recorder import Recorder
from noisewright.run.reserve import Reserve
from noisewright.run.store import Store
from noisewright.verifiers.optional import Usage, runs_elsewhere
from noisewright.verifiers.protocol import Billed, Verifier, usage_of, waits

FRUITLESS = 16
"""After so many images without a single number from any verifier a run gives up."""

SHORTEST_WAIT_SECONDS = 5.0
"""For a server's answer, however little is left of a budget in seconds: the last image is scored too."""

BROKEN = {
    "nan": "have NaN in them and are saved as black",
    "nsfw": "were blacked out by the pipeline's safety checker",
}
"""Why an image is no picture, in words."""


class Scores:
    """The verifiers and judges of a run, asked through its executor.

    Args:
        verifiers: what the search sees.
        judges: what it never sees.
        prompt: what the images should show.
        executor: who asks them.
        recorder: what they said so far.
        reserve: the budget; it is told how long judges take.
        store: where the images are.
        say: told what the person should know.
        elapsed: seconds that the run has taken.
        frames: how many frames of a video stand side by side in each image.
        device: where the model computes.
    """

    def __init__(
        self, verifiers: Sequence[Verifier], judges: Sequence[Verifier], prompt: str, executor: Executor,
        recorder: Recorder, reserve: Reserve, store: Store, say: Callable[[str], None], elapsed: Callable[[], float],
        frames: int = 1, device: str = "cpu",
    ) -> None:  # fmt: skip
        self._verifiers = verifiers
        self._judges = judges
        self._prompt = prompt
        self._executor = executor
        self._recorder = recorder
        self._reserve = reserve
        self._store = store
        self._say = say
        self._elapsed = elapsed
        self._frames = frames
        self._names = tuple(one.name for one in verifiers)
        self._before = [copy(usage_of(one)) for one in (*verifiers, *judges)]  # what others had them ask
        self._waiting = tuple(one.name for one in verifiers if waits(one) or runs_elsewhere(one, device))

    def jobs(
        self, images: Tensor, whole: Sequence[bool], previews: Tensor | None, *, aside: bool, final: bool = True
    ) -> list[ScoreJob]:
        """What scores a micro-batch.

        Args:
            images: (batch, 3, height, width).
            whole: which of them are pictures.
            previews: what they looked like on the way.
            aside: whether those that wait for servers, or compute elsewhere, may be asked while the model works.
            final: whether these are finished images, of which verifiers may say more than a score.
        """

        def job(names: tuple[str, ...], waiting: bool) -> ScoreJob:
            return ScoreJob(
                "score", self._prompt, images, names, tuple(whole), previews, wants_details=final, patient=final,
                chances=FRUITLESS - 1 - len(self._recorder.doubtful) if final else 0, proven=self._recorder.proven,
                seconds=self._seconds_left(), shortest=SHORTEST_WAIT_SECONDS, waits=waiting,
                frames=self._frames,
            )  # fmt: skip

        if not self._waiting or not (aside or asks_servers(self._executor)):
            return [job(self._names, False)]
        others = tuple(name for name in self._names if name not in self._waiting)
        return [job(self._waiting, aside), *([job(others, False)] if others else [])]

    def overlap(self) -> bool:
        """Whether images may be scored while the next are made: nothing that a verifier may yet do ends the search."""
        return (self._executor.workers > 1 or scorers_of(self._executor) > 0 or bool(self._waiting)) and self.proven

    @property
    def proven(self) -> bool:
        """Whether every verifier gave a number before, and the last images too: none can end the run."""
        return self._recorder.doubt is None and self._recorder.proven.issuperset(self._names)

    def together(self, outcomes: Sequence[Outcome]) -> tuple[dict[str, list[float]], dict[str, Any], float]:
        """The scores and details of a micro-batch's jobs in the verifiers' order, and the seconds that they took."""
        found: dict[str, list[float]] = {}
        every_detail: dict[str, Any] = {}
        for outcome in outcomes:
            found |= outcome.scores
            every_detail |= outcome.details
            for note in outcome.notes:
                self._say(note)
        scores = {name: found[name] for name in self._names}
        details = {name: every_detail[name] for name in self._names if name in every_detail}
        return scores, details, round(sum(outcome.metered["seconds"]["verify"] for outcome in outcomes), 6)

    def write(self, some: Sequence[Particle], images: Tensor, outcomes: Sequence[Outcome]) -> None:
        """Write down what the verifiers said of finished images.

        Raises:
            VerifierFailed: where not one number came in all this time.
        """
        scores, details, took = self.together(outcomes)
        self._recorder.doubt = next((one.doubt for one in reversed(outcomes) if one.doubt is not None), None)
        self._reserve.pixels = images.shape[-1] * images.shape[-2]
        if self._reserve.budget.seconds is not None and not self._reserve.judging_seconds:
            self._time_judges(some[0], images[:1])
        record: dict[str, Any] = {"verb": "score", "ids": [p.id for p in some], "scores": scores}
        if details:
            record["details"] = details
        self._recorder.append({**record, "seconds": {"verify": took}}, doubtful=self._recorder.doubt is not None)
        self._recorder.states.forget_previews(some)
        if len(self._recorder.ledger.candidates) >= FRUITLESS and self._recorder.doubt is None:
            self.check()

    def ask(self, some: Sequence[Particle]) -> None:
        """Score images of the journal that nobody has scored."""
        images = torch.stack([self.image_of(p.id) for p in some])
        previews = self._recorder.states.previews(some)
        jobs = self.jobs(images, self.whole([p.id for p in some]), previews, aside=False)
        self.write(some, images, [self._executor.submit(job).result() for job in jobs])

    def check(self) -> None:
        """Raise VerifierFailed where no image has a number yet, or a verifier failed on all it was asked about."""
        ledger = self._recorder.ledger
        if self._recorder.doubt is not None:
            raise self._recorder.doubt
        if ledger.candidates and not any(ledger.numbers.values()):
            names = ", ".join(self._names)
            why = "; ".join(self.failures()) if not any(self.whole(list(ledger.candidates))) else names
            raise VerifierFailed(f"every score so far is NaN ({why}): expected at least one number")

    def failures(self) -> list[str]:
        """A sentence for each verifier that gave NaN, however many processes it took."""
        return failures_in(self._recorder.ledger, self._names)

    def bills(self) -> list[str]:
        """A sentence for each verifier and judge that asked a server for this run, here: how much, and at what cost."""
        both = zip((*self._verifiers, *self._judges), self._before, strict=True)
        usages = [(one.name, _since(before, usage_of(one))) for one, before in both]
        return [f"{name} sent {usage}" for name, usage in usages if usage is not None and usage.requests]

    def judge(self, ids: Sequence[str]) -> None:
        """Ask the judges about images of the journal that they have not seen."""
        for judge in self._judges:
            todo = [key for key in ids if judge.name not in self._recorder.ledger.judged.get(key, {})]
            if todo:
                self._judge_some(judge, todo)

    def _judge_some(self, judge: Verifier, ids: Sequence[str]) -> float:
        images = torch.stack([self.image_of(key) for key in ids])
        outcome = self._judged(judge, images, self.whole(ids))
        if outcome.failed is not None:  # the result stands without it
            self._say(f"judge {outcome.failed}".replace("judge verifier", "judge"))
            return outcome.took
        record = {"verb": "judge", "judge": judge.name, "ids": list(ids), "scores": outcome.scores[judge.name]}
        if judge.name in outcome.details:
            record["details"] = outcome.details[judge.name]
        seconds = {"verify": outcome.metered["seconds"]["verify"]}
        self._recorder.append({**record, "seconds": seconds})
        return outcome.took

    def _judged(self, judge: Verifier, images: Tensor, whole: Sequence[bool], wants_details: bool = True) -> Outcome:
        job = ScoreJob(
            "judge", self._prompt, images, (judge.name,), tuple(whole), wants_details=wants_details,
            seconds=self._seconds_left(), shortest=SHORTEST_WAIT_SECONDS, frames=self._frames,
        )  # fmt: skip
        return self._executor.submit(job).result()

    def _time_judges(self, first: Particle, image: Tensor) -> None:
        """How long the judges will take for the baseline and the winners.

        The baseline, where the first image is it, is judged for good. The first answer of a judge that runs here is
        cold, so it is asked twice; what it says then is not looked at. A judge behind a server, which may cost money,
        is asked about the baseline alone.
        """
        is_baseline = self._reserve.is_baseline(first)
        seconds = 0.0
        for judge in self._judges:
            took = 0.0
            if is_baseline and judge.name not in self._recorder.ledger.judged.get(first.id, {}):
                took = self._judge_some(judge, [first.id])
            if not (waits(judge) or isinstance(judge, Billed)) and self.whole([first.id])[0]:
                took = self._judged(judge, image, [True], wants_details=False).took
            seconds += took
        self._reserve.judging_seconds = max(seconds * (self._reserve.winners + (not is_baseline)), 1e-6)

    def whole(self, ids: Sequence[str]) -> list[bool]:
        """Which images verifiers are asked about: all but the broken ones."""
        return [self._recorder.ledger.images[key].broken is None for key in ids]

    def image_of(self, key: str) -> Tensor:
        """A finished image (3, height, width).

        Raises:
            ValueError: where its file is not what was made.
        """
        made = self._recorder.ledger.images[key]
        image = self._store.image(made.file, made.pixels)
        if image is None:
            path = self._store.root / made.file
            raise ValueError(f"expected the image {path} as it was made, got another or none")
        return image

    def _seconds_left(self) -> float | None:
        """How long a server may be waited for: what is left of a budget in seconds, or None without one."""
        budget = self._reserve.budget.seconds
        return None if budget is None else budget - self._elapsed()


def _since(before: Usage | None, now: Usage | None) -> Usage | None:
    """What was asked of a server since ``before``; all of it, where what says so is no dataclass of numbers."""
    if before is None or now is None or not is_dataclass(now) or isinstance(now, type):
        return now
    numbers = {one.name: getattr(now, one.name) for one in fields(now) if one.init}
    grown = {name: value - getattr(before, name) for name, value in numbers.items() if type(value) in (int, float)}
    return cast("Usage", replace(now, **grown))


def failures_in(ledger: Ledger, names: Sequence[str]) -> list[str]:
    """A sentence for each verifier of these ``names`` that gave NaN, and for each kind of image that is no picture."""
    found, of = [], len(ledger.candidates)
    reasons = [made.broken for made in ledger.images.values() if made.broken is not None]
    for name in names:
        bad = sum(math.isnan(one.scores[name]) for one in ledger.candidates.values()) - len(reasons)
        if bad > 0:
            found.append(f"verifier {name} gave NaN for {bad} of {of} images; they rank last")
    for reason, text in BROKEN.items():
        if reason in reasons:
            found.append(f"{reasons.count(reason)} of {len(ledger.images)} images {text}; they rank last")
    return found
