"""How much may be done next: the budget, what is kept back of it for the end, and how long work takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from noisewright.run.budget import Budget, Spent, affordable
from noisewright.run.costs import Costs
from noisewright.run.ledger import Ledger
from noisewright.run.pace import Pace
from noisewright.run.particle import Particle, noise_particle
from noisewright.run.ways import Ways, draws_of
from noisewright.samplers.protocol import Sampler

SAVING_SECONDS = 0.25
SAVING_SECONDS_PER_PIXEL = 2e-6
"""Kept back of a budget in seconds for the pictures of a run: a part for all, and one by the image's size."""

FINALS_SHARE = 0.5
"""At most this share of a budget in seconds is kept back for drafts in full, unless the winners alone take more."""


@dataclass(frozen=True)
class Work:
    """Equal work on particles, a micro-batch after the other.

    Attributes:
        kind: what its time is remembered by.
        nfe_each: what one particle costs.
        images_each: how many finished images one becomes: 0 or 1.
        reserved: whether it is paid from what was kept back, so that no budget ends it.
    """

    kind: str
    nfe_each: int
    images_each: int = 0
    reserved: bool = False


@dataclass
class InFlight:
    """What was submitted and is in no line of the journal yet.

    Attributes:
        particles: that are being worked on.
        nfe: that they will cost, or that work which failed did cost.
        seconds: that what is in flight takes longer than the next micro-batch's own steps.
    """

    particles: list[Particle] = field(default_factory=list)
    nfe: int = 0
    seconds: float = 0.0


class Reserve:
    """The budget with what must be left of it to finish well: kept particles, the baseline, the winners in full.

    Args:
        budget: the limits.
        ledger: what was spent and made.
        costs: what work costs.
        ways: how particles go on.
        search, final: the samplers; one and the same where the search has no steps of its own.
        seed: of the baseline.
        elapsed: seconds that the run has taken.
        winners: how many of the best are judged, and of drafts rendered in full whatever the time.
        finalists: how many of the best drafts are rendered in full, at most.
        pictures: whether a contact sheet and plots come at the end.
    """

    def __init__(
        self, budget: Budget, ledger: Ledger, costs: Costs, ways: Ways, search: Sampler, final: Sampler, seed: int,
        elapsed: Callable[[], float], winners: int = 1, finalists: int = 1, pictures: bool = True,
    ) -> None:  # fmt: skip
        self.budget = budget
        self.winners = winners
        self.finalists = finalists
        self.kept: dict[str, Particle] = {}
        self.judging_seconds = 0.0
        self.pictures = pictures
        self.pixels = 0
        self.in_flight = InFlight()
        self._ledger = ledger
        self._costs = costs
        self._ways = ways
        self._search = search
        self._final = final
        self._seed = seed
        self._elapsed = elapsed
        self._steps_pace: dict[str, Pace] = {}
        self._rest_pace: dict[str, Pace] = {}
        self._verify_pace = Pace()
        self._full_before: float | None = None
        self._dearest = final.nfe(0, final.schedule.steps)
        self._own = "finish"  # what the search's own images are timed as; full ones beside drafts are "render"

    def search_in_full(self) -> None:
        """The search samples with what renders in full: there is nothing to render at the end."""
        self._search, self._own = self._final, "render"

    def allowed(self, work: Work, some: Sequence[Particle]) -> int:
        """How many of the next particles ``some`` the budget has room for, from the first on."""
        self._ledger.spent.seconds = self._elapsed()
        count = len(some)
        if work.reserved:
            return count
        self._dearest = max(self._dearest, *(self._costs.from_noise(one, self._final) for one in some))
        if not self.is_timed(work):
            count = 1
        used = self._used(work.images_each)
        count = affordable(  # at most, before anything is kept back: more need not be tried one by one
            self.budget, used, count, nfe_each=work.nfe_each, images_each=work.images_each, seconds_each=0.0,
            reserve=Spent(),
        )  # fmt: skip
        while count > 0:  # what is kept back depends on how much of it this batch does
            begun = [*self.in_flight.particles, *some[:count]]
            fits = affordable(
                self.budget, used, count, nfe_each=work.nfe_each, images_each=work.images_each,
                seconds_each=self.seconds_of(work.kind, count, work.nfe_each) / count,
                reserve=self._kept_back(begun, work.nfe_each, work.images_each),
            )  # fmt: skip
            if fits >= count:
                break
            count = fits if fits > 0 else count - 1
        return count

    def is_timed(self, work: Work) -> bool:
        """Whether it is known how long such work takes, as far as the budget asks for that."""
        return work.reserved or self.budget.seconds is None or work.kind in self._rest_pace

    def keep(self, particles: Sequence[Particle]) -> None:
        """Hold back what finishing these takes, in place of those kept before, as far as there is room, in order."""
        every = {particle.id: particle for particle in particles}
        low, high = 0, len(every)
        while low < high:
            middle = (low + high + 1) // 2
            self.kept = dict(islice(every.items(), middle))
            low, high = (low, middle - 1) if self._overdrawn() else (middle, high)
        self.kept = dict(islice(every.items(), low))

    def advance_kept(self, particle: Particle) -> None:
        """What is kept goes on being kept from where the first of its successors stands."""
        way = dict(draws_of(particle)) if self.kept else {}
        for key, kept in self.kept.items() if way else ():
            if kept.index < particle.index and kept.index <= way.get(kept.origin.id, -1):
                del self.kept[key]
                self.kept[particle.id] = particle
                return

    def note_pace(
        self, work: Work, count: int, took: float, stepping: float, verifying: float, steady: float | None
    ) -> None:
        """Remember how long a micro-batch took.

        Args:
            work: what it was.
            count: its size.
            took: seconds of all of it: steps, decoding, verifying, writing.
            stepping: of these, its steps.
            verifying: of these, the verifiers.
            steady: seconds of one step that was not the first, where that was measured.
        """
        if work.nfe_each:
            pace = self._steps_pace.setdefault(work.kind, Pace())
            if steady is not None and not pace.known:
                pace.note(count, steady, warm=True)
            else:
                pace.note(count, stepping / work.nfe_each)
        self._rest_pace.setdefault(work.kind, Pace()).note(count, max(0.0, took - stepping))
        if work.images_each:
            self._verify_pace.note(count, verifying)

    def seconds_of(self, kind: str, count: int, nfe: float) -> float:
        """The estimate for a micro-batch: its steps and the rest."""
        rest = self._rest_pace.get(kind)
        return self._stepping(kind, count, nfe) + (0.0 if rest is None else rest.seconds(count))

    def longer_than_steps(self, work: Work, count: int) -> float:
        """How many seconds longer ``count`` images are verified than as many are denoised."""
        return max(0.0, self._verify_pace.seconds(count) - self._stepping(work.kind, count, work.nfe_each))

    def _stepping(self, kind: str, count: int, nfe: float) -> float:
        steps = self._steps_pace.get(kind) or next(iter(self._steps_pace.values()), None)
        return 0.0 if steps is None else steps.seconds(count) * nfe

    def _used(self, images_each: int = 0) -> Spent:
        """What was used, with what is in flight."""
        spent, begun = self._ledger.spent, self.in_flight
        images = spent.images + len(begun.particles) * images_each
        return Spent(images, spent.nfe + begun.nfe, 0, spent.seconds + begun.seconds)

    def room_in_full(self, count: int) -> int:
        """Of ``count`` more full images at the end, how many there is time for; all without a budget in seconds."""
        if self.budget.seconds is None:
            return count
        left = self.budget.seconds - self._elapsed() - self.judging_seconds - self._saving()
        return next((some for some in range(count, 0, -1) if self._full_seconds(some) <= left), 0)

    def is_baseline(self, particle: Particle) -> bool:
        """Whether a finished particle is what the model gives by itself for the run's seed."""
        return particle.id == self._ways.finished_noise(self._seed, self._final.schedule.steps).id

    def _kept_back(self, batch: Sequence[Particle] = (), nfe_each: int = 0, images_each: int = 0) -> Spent:
        """What must be left for the end, and for saving, after ``batch`` was worked on."""
        pending = dict(self.kept)
        images = nfe = 0
        full = 0.0
        if self._final is self._search:
            pending.setdefault("baseline", noise_particle(self._seed, self._search.schedule.steps))
        else:
            baseline = self._ways.finished_noise(self._seed, self._final.schedule.steps)
            others = int(baseline.id not in self._ledger.candidates)
            images = self.finalists + others  # of drafts the best, the baseline
            nfe, full = images * self._dearest, self._full_seconds(self._finals(others) + others)
        before, nfe_before = images, nfe
        ends: set[str] = set()
        own = {one.origin.id for one in batch}
        reached: dict[str, int] = {}
        for key, index in (draw for one in batch for draw in draws_of(one)):
            reached[key] = max(index, reached.get(key, -1))
        for key, particle in pending.items():
            clean = self._ways.denoised(particle, self._search.schedule.steps)
            if clean.id in self._ledger.images or clean.id in ends:
                continue
            ends.add(clean.id)
            # A fork goes on in place of what was kept, but never in place of the baseline.
            origin = clean.origin.id
            moves = origin in own if key == "baseline" else reached.get(origin, -1) >= particle.index
            if not (moves and images_each):
                images += 1
                nfe += max(0, self._costs.to_reach(clean, self._search) - (nfe_each if moves else 0))
        more, costing = images - before, nfe - nfe_before
        seconds = full + (self.seconds_of(self._own, more, costing / more) if more else 0.0)
        return Spent(images, nfe, 0, seconds + self.judging_seconds + self._saving())

    def _finals(self, others: int) -> int:
        """How many of the best drafts time is kept back for: in a small budget for fewer than are wanted."""
        most = math.inf if self.budget.seconds is None else FINALS_SHARE * self.budget.seconds
        fit = (some for some in range(self.finalists, self.winners, -1) if self._full_seconds(some + others) <= most)
        return next(fit, min(self.winners, self.finalists))

    def _full_seconds(self, count: int) -> float:
        """The estimate for ``count`` full images beside drafts: by those timed here, by the journal, by the drafts."""
        if "render" in self._rest_pace:
            return self.seconds_of("render", count, self._dearest)
        if self._full_before is None:
            self._full_before = self._timed_before()
        return count * self._full_before if self._full_before else self.seconds_of(self._own, count, self._dearest)

    def _timed_before(self) -> float:
        """Seconds of a full image by the journal, of a run that another process began; 0 where it has none."""
        kind = self._ways.finished_noise(self._seed, self._final.schedule.steps).kind
        full = {one.id for one in self._ledger.candidates.values() if one.particle.kind == kind}
        lines = [(ids, took) for ids, took in self._ledger.timed if full.issuperset(ids)]
        images = {key for ids, _ in lines for key in ids}
        return sum(took for _, took in lines) / len(images) if images else 0.0

    def _saving(self) -> float:
        return SAVING_SECONDS + SAVING_SECONDS_PER_PIXEL * self.pixels if self.pictures else 0.0

    def _overdrawn(self) -> bool:
        """Whether what is kept back is more than what is left."""
        back, budget = self._kept_back(), self.budget
        used = replace(self._used(), seconds=self._elapsed())
        limits = (
            (budget.images, used.images + back.images),
            (budget.nfe, used.nfe + back.nfe),
            (budget.seconds, used.seconds + back.seconds),
        )
        return any(limit is not None and needed > limit for limit, needed in limits)
