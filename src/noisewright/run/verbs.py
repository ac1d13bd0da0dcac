"""The run: the verbs a search is written in, with the budget, the journal and the micro-batches behind them.

A search function receives a :class:`Run` and calls its verbs on particles. It contains no budget, persistence,
batching or device code: a verb whose work is already in the journal is a look-up, and a verb that the budget does not
allow raises :class:`~noisewright.errors.BudgetExhausted`, which the search lets pass.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.errors import BudgetExhausted, TargetReached, VerifierFailed, out_of_memory
from noisewright.executors.local import Executor, LocalExecutor
from noisewright.images.metadata import RECIPE_VERSION, encode_png, pixel_hash, pixels_of, without_nan
from noisewright.outside.texts import clean, clean_all
from noisewright.run.budget import Budget, Spent, affordable
from noisewright.run.ledger import Ledger, recovery
from noisewright.run.pace import Pace
from noisewright.run.particle import (
    Candidate,
    Lineages,
    Particle,
    ensemble_values,
    noise_particle,
)
from noisewright.run.standings import CurvePoint as CurvePoint  # which others take from here too
from noisewright.run.standings import Order, baseline_of, curve
from noisewright.run.states import States, carry
from noisewright.run.store import Store, digest_of
from noisewright.samplers.protocol import DifferentiableSampler, Meter, Sampler
from noisewright.schemas.journal import check_record
from noisewright.verifiers.protocol import Verifier, details_of, gradient_of, score, score_whole
from noisewright.verifiers.retry import TimeIsUp, deadline

FRUITLESS = 16
"""After so many images without a single number from any verifier a run gives up."""

SHORTEST_WAIT_SECONDS = 5.0
"""For a server's answer, however little is left of a budget in seconds: the last image is scored too."""

BROKEN = {
    "nan": "have NaN in them and are saved as black",
    "nsfw": "were blacked out by the pipeline's safety checker",
}
"""Why an image is no picture, in words."""

SAVING_SECONDS = 0.5
SAVING_SECONDS_PER_PIXEL = 2e-6
"""Kept back of a budget in seconds for the contact sheet and the plots: a part for all, and one by the image's size."""


@dataclass(frozen=True)
class Preview:
    """The scores of a particle's clean estimate at an intermediate index; never compare one with a final score."""

    particle: Particle
    scores: dict[str, float]


Scored = TypeVar("Scored", Candidate, Preview)


@dataclass
class Target:
    """Stop as soon as one candidate reaches all of these scores. Empty: never."""

    scores: dict[str, float] = field(default_factory=dict)

    def reached(self, scores: dict[str, float]) -> bool:
        return bool(self.scores) and all(scores.get(name, math.nan) >= goal for name, goal in self.scores.items())


class Run:
    """The live handle that a search holds.

    Args:
        store: where it is recorded.
        sampler: the model that the search samples with.
        verifiers: what the search sees; at least one, names distinct.
        seed: S; the starting noises carry the seeds S, S + 1, S + 2, ...
        budget: the limits.
        ensemble: how several verifiers become one value: ``rank``, ``zsum`` or weights in the verifiers' order, as
            :func:`noisewright.run.particle.read_ensemble` gives them.
        target: when to stop early.
        final: the sampler that renders the result, where it is not the one the search samples with.
        search: the search's name, for the records.
        batch_size: the first micro-batch size.
        judges: what :meth:`judge` will ask at the end; a budget in seconds keeps their time back.
        on_progress: called after each micro-batch.
    """

    def __init__(
        self,
        store: Store,
        sampler: Sampler,
        verifiers: Sequence[Verifier],
        *,
        seed: int = 0,
        budget: Budget | None = None,
        ensemble: str = "rank",
        target: Target | None = None,
        final: Sampler | None = None,
        search: str = "random",
        batch_size: int = 8,
        judges: Sequence[Verifier] = (),
        executor: Executor | None = None,
        on_progress: Callable[[Run], None] | None = None,
    ) -> None:
        if not verifiers:
            raise ValueError("expected at least one verifier, got none")
        names = [verifier.name for verifier in verifiers]
        if len(set(names)) != len(names):
            raise ValueError(f"expected verifiers with distinct names, got {', '.join(names)}")
        self.store = store
        self.sampler = sampler
        self.prompt = str(sampler.description["prompt"])
        self.final = final or sampler
        self.verifiers = list(verifiers)
        self.judges = list(judges)
        self.seed = seed
        self.budget = budget or Budget()
        self.ensemble = ensemble
        self.target = target or Target()
        self.search = search
        self.on_progress = on_progress
        self.warnings: list[str] = list(store.warnings)
        self.ledger = Ledger(recovery(store.root))
        self._lineages = Lineages()
        self._costs: dict[tuple[int, int, int], int] = {}
        self._described: dict[int, dict[str, Any]] = {}
        self._leaders: dict[int, Candidate] = {}
        self._states = States(store, self.say)
        self._kept: dict[str, Particle] = {}
        self._ways: dict[tuple[str, int], Particle] = {}
        self._drawn = 0
        self._draws: dict[str, int] = {}
        self.saving_seconds = SAVING_SECONDS
        self._steps_pace: dict[str, Pace] = {}
        self._rest_pace: dict[str, Pace] = {}
        self._pixels = 0
        self._judging_seconds = 0.0
        self._doubt: VerifierFailed | None = None
        self._doubtful: list[dict[str, Any]] = []
        self.executor = executor or LocalExecutor(batch_size, self._on_shrink)
        self._replay()
        self._before = self.spent.seconds
        self._began = time.perf_counter()
        # A fresh sampler has encoded the prompt already, for this run; a used one counted for others.
        self._meter = (Meter() if sampler.meter.nfe == 0 else sampler.meter).snapshot()

    # What the journal says

    @property
    def spent(self) -> Spent:
        """What the run has used."""
        return self.ledger.spent

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase."""
        return self.ledger.seconds

    @property
    def candidates(self) -> dict[str, Candidate]:
        """What was finished and scored, by id, in order."""
        return self.ledger.candidates

    # Verbs

    @property
    def steps(self) -> int:
        """N of the schedule that the search samples with."""
        return self.sampler.schedule.steps

    @property
    def schedule(self) -> Schedule:
        """The noise levels that the search samples with."""
        return self.sampler.schedule

    @property
    def stochastic(self) -> bool:
        """Whether steps draw noise (eta > 0), without which forks stay equal."""
        return self.sampler.stochastic

    @property
    def noise_size(self) -> int:
        """How many numbers a starting noise has."""
        return self.sampler.noise([self.seed])[0].numel()

    @property
    def without_gradient(self) -> list[str]:
        """What of the sampler and the verifiers has no gradient; empty where all have."""
        return without_gradient(self.sampler, self.verifiers)

    def state(self, particle: Particle) -> Tensor:
        """A particle's state, (1, channels, height, width): held, read, or made again from its lineage, uncounted."""
        return self._states.one(particle, self.sampler)[0]

    def noise(self, count: int) -> list[Particle]:
        """The next ``count`` starting noises: seeds S + k, each as plain diffusers draws it. Free."""
        first = self._drawn
        self._drawn += count
        return [noise_particle(self.seed + first + k, self.steps) for k in range(count)]

    def vary(self, particle: Particle, count: int, cosine: float) -> list[Particle]:
        """``count`` new neighbours of a starting noise at a fixed angle, norm kept. Free.

        See :func:`noisewright.diffusion.noise.rotate`. Calling twice gives new neighbours.
        """
        _check_start(particle)
        draws = self._next_draws("vary", particle, count)
        return [Particle("vary", (particle,), {"cosine": cosine, "draw": draw}, 0, particle.steps) for draw in draws]

    def blend(self, particles: Sequence[Particle], weights: Sequence[float]) -> Particle:
        """The weighted mean of starting noises at their norm (:func:`noisewright.diffusion.noise.blend`). Free."""
        for particle in particles:
            _check_start(particle)
        return Particle("blend", tuple(particles), {"weights": [float(w) for w in weights]}, 0, self.steps)

    def place(self, particle: Particle, at: Sequence[float]) -> Particle:
        """The point ``at`` of a slice of noise around another (:func:`noisewright.diffusion.noise.place`). Free."""
        _check_start(particle)
        return Particle("place", (particle,), {"at": [float(value) for value in at]}, 0, particle.steps)

    def renoise(self, particle: Particle, to: int, count: int = 1) -> list[Particle]:
        """``count`` copies of a particle carried back to the earlier index ``to``, each with fresh noise. Free."""
        if not 0 <= to <= particle.index:
            raise ValueError(f"expected an index in [0, {particle.index}], got {to}")
        draws = self._next_draws("renoise", particle, count)
        return [Particle("renoise", (particle,), {"to": to, "draw": draw}, to, particle.steps) for draw in draws]

    def fork(self, particle: Particle, count: int) -> list[Particle]:
        """``count`` copies of a particle, each of which draws its own noise in stochastic steps. Free."""
        draws = self._next_draws("fork", particle, count)
        return [Particle("fork", (particle,), {"draw": draw}, particle.index, particle.steps) for draw in draws]

    def denoise(self, particles: Sequence[Particle], to: int) -> list[Particle]:
        """Carry particles to the later index ``to`` < N. Costs ``to - index`` steps each, one less after a preview.

        Raises:
            BudgetExhausted: after as many as the budget allows.
        """
        if not 0 < to < self.steps:
            raise ValueError(f"expected an index in [1, {self.steps - 1}], got {to}; finish() goes to the end")
        after = [self._denoised_from(p, to) for p in particles]
        todo = _distinct([p for p in after if p.verb == "denoise" and not self._states.has(p)])
        for nfe_each, group in self._groups(todo, self.sampler):
            self._work("denoise", group, self._denoise_some, nfe_each=nfe_each, images_each=0)
        for particle in after:
            self._advance_kept(particle)
        return after

    def preview(self, particles: Sequence[Particle]) -> list[Preview]:
        """Score the clean estimates of particles at an intermediate index.

        Costs one NFE each, which the next step from there does not cost again, where the solver is noisewright's.
        """
        todo = _distinct([p for p in particles if p.id not in self.ledger.previews])
        keys = [(p.index, self._states.estimated(p), self.sampler.remembers and _life(p)) for p in todo]
        for _, group in _alike(keys, todo):
            nfe_each = 0 if self._states.estimated(group[0]) else 1
            self._work("preview", group, self._preview_some, nfe_each=nfe_each, images_each=0)
        return [Preview(p, self.ledger.previews[p.id]) for p in particles]

    def ascend(
        self, particles: Sequence[Particle], *, rate: float, momentum: float, clip: float, norm_weight: float
    ) -> list[Particle]:
        """One step of gradient ascent from starting noises (see :mod:`noisewright.search.gradient`).

        Costs N steps each, and their backward passes.
        """
        args = {"rate": rate, "momentum": momentum, "clip": clip, "norm_weight": norm_weight}
        for particle in particles:
            _check_start(particle)
        after = [Particle("ascend", (p,), args, 0, p.steps) for p in particles]
        todo = _distinct([p for p in after if not self._states.has(p)])
        if todo:
            self._work("ascend", todo, self._ascend_some, nfe_each=self.sampler.nfe(0, self.steps), images_each=0)
        return after

    def keep(self, particles: Sequence[Particle]) -> None:
        """Hold back from the budget what finishing these takes, in place of those kept before.

        Whatever ends the search, they are finished, as far as the budget had room for them when they were kept. A kept
        particle that is denoised or previewed goes on being kept from where it stands then.
        """
        every = {particle.id: particle for particle in particles}
        low, high = 0, len(every)  # the most of them, in order, that there is room for
        while low < high:
            middle = (low + high + 1) // 2
            self._kept = dict(islice(every.items(), middle))
            low, high = (low, middle - 1) if self._overdrawn() else (middle, high)
        self._kept = dict(islice(every.items(), low))

    def finish(self, particles: Sequence[Particle]) -> list[Candidate]:
        """Denoise particles to the end, decode, save and score them. Costs ``N - index`` steps each.

        Raises:
            BudgetExhausted: after as many as the budget allows.
            TargetReached: after the micro-batch in which a candidate reached the target.
            VerifierFailed: where a verifier fails; the images are kept.
        """
        return self._finish(particles, self.sampler)

    def value(self, scored: Sequence[Candidate | Preview]) -> list[float]:
        """What to sort by, higher better: the score, or the ensemble's value within ``scored``."""
        names = [verifier.name for verifier in self.verifiers]
        return ensemble_values([[one.scores[name] for name in names] for one in scored], self.ensemble)

    @property
    def order(self) -> Order:
        """What candidates are sorted by."""
        return Order(tuple(verifier.name for verifier in self.verifiers), self.ensemble)

    def top(self, scored: Sequence[Scored], count: int = 1) -> list[Scored]:
        """The best ``count`` candidates or previews, best first; ties go to the earlier, NaN ranks last."""
        values = self.value(scored)
        order = sorted(range(len(scored)), key=lambda n: (-values[n], getattr(scored[n], "order", n)))
        return [scored[n] for n in order[:count]]

    def say(self, text: str) -> None:
        """Tell the person something about the run, once."""
        text = clean(text, 1000)
        if text not in self.warnings:
            self.warnings.append(text)

    # What came of it

    @property
    def best(self) -> Candidate | None:
        """The best rendering so far: of the final steps where any is there, else of the search's."""
        steps = self.final.schedule.steps
        if len(self.verifiers) == 1:  # its score is the value: no need to look at the whole pool
            found = self._leaders.get(steps)
            return found or self._leaders.get(self.steps)
        pool = list(self.candidates.values())
        full = [one for one in pool if one.particle.steps == steps]
        return self.top(full or pool)[0] if pool else None

    @property
    def baseline(self) -> Candidate | None:
        """What the model gives by itself for the seed S, or None where it is not made yet."""
        return self.candidates.get(self._baseline_particle().id)

    @property
    def draft_baseline(self) -> Candidate | None:
        """The seed S with the search's own steps, where that was made."""
        return self.candidates.get(self._denoised_from(noise_particle(self.seed, self.steps), self.steps).id)

    def judge(self) -> dict[str, dict[str, float]]:
        """Scores of the best and the baseline by verifiers that the search never saw, by candidate id."""
        shown = {one.id: one for one in (self.baseline, self.best) if one is not None}
        for judge in self.judges:
            todo = [one for one in shown.values() if judge.name not in self.ledger.judged.get(one.id, {})]
            if todo:
                self._judge_some(judge, [one.id for one in todo])
        return {key: dict(self.ledger.judged.get(key, {})) for key in shown}

    def _judge_some(self, judge: Verifier, ids: Sequence[str]) -> None:
        began = time.perf_counter()
        images = torch.stack([self._image_of(key) for key in ids])
        whole = self._whole(ids)
        try:
            with deadline(self._seconds_left()):
                found = score_whole(judge, images, self.prompt, whole)
        except VerifierFailed as error:  # the result stands without it
            self.say(f"judge {error}".replace("judge verifier", "judge"))
            return
        record: dict[str, Any] = {"verb": "judge", "judge": judge.name, "ids": list(ids), "scores": found}
        told = details_of(judge, images, self.prompt, whole)
        if told is not None:
            record["details"] = clean_all(told)
        self._append({**record, "seconds": {"verify": round(time.perf_counter() - began, 6)}})

    def failures(self) -> list[str]:
        """A sentence for each verifier that gave NaN, however many processes it took."""
        found, of = [], len(self.candidates)
        for verifier in self.verifiers:
            bad = sum(math.isnan(one.scores[verifier.name]) for one in self.candidates.values())
            bad -= sum(made.broken is not None for made in self.ledger.images.values())
            if bad > 0:
                found.append(f"verifier {verifier.name} gave NaN for {bad} of {of} images; they rank last")
        reasons = [made.broken for made in self.ledger.images.values() if made.broken is not None]
        for reason, text in BROKEN.items():
            if reason in reasons:
                found.append(f"{reasons.count(reason)} of {len(self.ledger.images)} images {text}; they rank last")
        return found

    def bills(self) -> list[str]:
        """A sentence for each verifier and judge that asked a server in this process: how much, and at what cost."""
        asked = [(one.name, getattr(one, "usage", None)) for one in (*self.verifiers, *self.judges)]
        return [f"{name} sent {usage}" for name, usage in asked if getattr(usage, "requests", 0)]

    def curve(self) -> list[CurvePoint]:
        """Best-so-far after each candidate of the search, in order; the value never falls.

        With several verifiers the value is the ensemble's within the whole pool, so that it has one scale.
        """
        return curve(self.ledger, self.order, self.steps)

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, in all the processes that worked on it."""
        return self._before + time.perf_counter() - self._began

    # The end

    def render(self) -> None:
        """Make what the result shows: what was kept, the baseline, and with a short search schedule the winner in full.

        The reserve that every verb kept back pays for it.
        """
        self._finish(list(self._kept.values()), self.sampler, reserved=True)
        wanted = [self._baseline_particle()]
        if self.final is not self.sampler and self.candidates:
            drafts = [one for one in self.candidates.values() if one.particle.steps == self.steps]
            if drafts:
                wanted.append(_retarget(self.top(drafts)[0].particle, self.final.schedule.steps))
        self._finish(wanted, self.final, reserved=True)
        if self.budget.nfe is not None and self.spent.nfe > self.budget.nfe:
            self.say(f"{self.spent.nfe} of {self.budget.nfe} NFE: work that ran out of memory counts too")
        self._check_scores()

    def recipe(self, particle: Particle, size: int, place: int, versions: dict[str, str]) -> dict[str, Any]:
        """What makes a candidate again: the sampler, the lineage, and the micro-batch it was made in."""
        sampler = self.final if particle.steps == self.final.schedule.steps else self.sampler
        if id(sampler) not in self._described:
            self._described[id(sampler)] = dict(sampler.description)
        return {
            "recipe_version": RECIPE_VERSION,
            "id": particle.id,
            "seed": particle.seed,
            "sampler": self._described[id(sampler)],
            "lineage": self._lineages.text(particle),
            "micro_batch": {"size": size, "place": place},
            "search": self.search,
            "versions": versions,
        }

    # Behind the verbs

    def _baseline_particle(self) -> Particle:
        return baseline_of(self.seed, self.final.schedule.steps)

    def _denoised_from(self, particle: Particle, to: int) -> Particle:
        if particle.index == to:
            return particle
        if particle.index > to:
            raise ValueError(f"expected an index after {particle.index}, got {to}; renoise() goes back")
        key = (particle.id, to)
        if key not in self._ways:
            before = particle.parent if particle.verb == "denoise" else particle  # one way from a draw, however cut
            self._ways[key] = Particle("denoise", (before,), {"to": to}, to, particle.steps)
        return self._ways[key]

    def _next_draws(self, verb: str, particle: Particle, count: int) -> range:
        key = f"{verb}:{particle.id}"
        first = self._draws.get(key, 0)
        self._draws[key] = first + count
        return range(first, first + count)

    def _finish(self, particles: Sequence[Particle], sampler: Sampler, reserved: bool = False) -> list[Candidate]:
        steps = sampler.schedule.steps
        clean = [self._denoised_from(p, steps) for p in particles]
        unscored = [p for p in _distinct(clean) if p.id in self.ledger.images and p.id not in self.candidates]
        if unscored:  # made by a process that stopped before it could score them
            images = torch.stack([self._image_of(p.id) for p in unscored])
            self._score_some(unscored, images, self._states.previews(unscored))
        self._check_target(clean, reserved)  # a process that stopped between reaching it and saying so
        todo = [p for p in _distinct(clean) if p.id not in self.candidates]
        for nfe_each, group in self._groups(todo, sampler):
            self._work(
                "finish", group, lambda some: self._generate_some(some, sampler), nfe_each=nfe_each, images_each=1,
                reserved=reserved,
            )  # fmt: skip
        return [self.candidates[p.id] for p in clean]

    def _work(
        self, kind: str, group: Sequence[Particle], work: Callable[[Sequence[Particle]], None], *, nfe_each: int,
        images_each: int, reserved: bool = False,
    ) -> None:  # fmt: skip
        """Run ``work`` on micro-batches of ``group`` as far as the budget allows."""
        done = 0

        def allowed(count: int) -> int:
            self.spent.seconds = self.elapsed
            if reserved:
                return count
            if self.budget.seconds is not None and not self._is_timed(kind):
                count = 1  # nothing is known yet of how long one takes
            count = affordable(  # at most, before anything is kept back: more need not be tried one by one
                self.budget, self._used(), count, nfe_each=nfe_each, images_each=images_each, seconds_each=0.0,
                reserve=Spent(),
            )  # fmt: skip
            while count > 0:  # what is kept back depends on how much of it this batch does
                reserve = self._reserve(group[done : done + count], nfe_each, images_each)
                fits = affordable(
                    self.budget, self._used(), count, nfe_each=nfe_each, images_each=images_each,
                    seconds_each=self._seconds_of(kind, count, nfe_each) / count, reserve=reserve,
                )  # fmt: skip
                if fits >= count:
                    break
                count = fits if fits > 0 else count - 1
            return count

        def timed(some: Sequence[Particle]) -> None:
            began, stepping = time.perf_counter(), self.seconds["denoise"]
            work(some)
            self._note_pace(kind, len(some), nfe_each, time.perf_counter() - began, self.seconds["denoise"] - stepping)
            for particle in some:
                self._advance_kept(particle)

        for some, _ in self.executor.run(group, timed, allowed):
            done += len(some)
            if self.on_progress is not None:
                self.on_progress(self)
            self._check_target(some, reserved)
        if done < len(group):
            raise BudgetExhausted(str(self.budget))

    def _used(self) -> Spent:
        """What was used, with what no line of the journal speaks of yet: work that failed."""
        spent = self.spent
        return Spent(spent.images, spent.nfe + self.sampler.meter.since(self._meter)["nfe"], 0, spent.seconds)

    def _is_timed(self, kind: str) -> bool:
        return kind in self._rest_pace

    def _note_pace(self, kind: str, count: int, nfe_each: int, took: float, stepping: float) -> None:
        """Remember how long a micro-batch took: its steps, and the rest (decoding, verifying, writing)."""
        if nfe_each:
            on_cpu = str(self.sampler.description.get("device", "cpu")) == "cpu"  # elsewhere steps end later than calls
            steady = self.sampler.meter.steady_step() if on_cpu else None
            pace = self._steps_pace.setdefault(kind, Pace())
            if steady is not None and not pace.known:
                pace.note(count, steady, warm=True)
            else:
                pace.note(count, stepping / nfe_each)
        self._rest_pace.setdefault(kind, Pace()).note(count, max(0.0, took - stepping))

    def _seconds_of(self, kind: str, count: int, nfe: float) -> float:
        """The estimate for a micro-batch: its steps and the rest."""
        steps = self._steps_pace.get(kind) or next(iter(self._steps_pace.values()), None)
        rest = self._rest_pace.get(kind)
        found = 0.0 if steps is None else steps.seconds(count) * nfe
        return found + (0.0 if rest is None else rest.seconds(count))

    def _check_target(self, some: Sequence[Particle], reserved: bool) -> None:
        """Raise TargetReached where one of ``some`` is scored and reaches the target."""
        for particle in some:
            one = self.candidates.get(particle.id)
            if one is not None and not reserved and self.target.reached(one.scores):
                raise TargetReached(one.id)

    def _reserve(self, batch: Sequence[Particle] = (), nfe_each: int = 0, images_each: int = 0) -> Spent:
        """What must be left for :meth:`render` and for saving, after the next ``batch`` was worked on."""
        pending = dict(self._kept)
        images = nfe = 0
        if self.final is self.sampler:
            pending.setdefault("baseline", noise_particle(self.seed, self.steps))
        else:
            missing = 1 if self.baseline is not None else 2  # the winner in full, and the baseline
            images, nfe = missing, missing * self.final.nfe(0, self.final.schedule.steps)
        ends: set[str] = set()
        own = {one.origin.id for one in batch}
        reached: dict[str, int] = {}
        for key, index in (step for one in batch for step in _way(one)):
            reached[key] = max(index, reached.get(key, -1))
        for key, particle in pending.items():
            clean = self._denoised_from(particle, self.steps)
            if clean.id in self.ledger.images or clean.id in ends:
                continue
            ends.add(clean.id)
            # A fork goes on in place of what was kept, but never in place of the baseline.
            origin = clean.origin.id
            moves = origin in own if key == "baseline" else reached.get(origin, -1) >= particle.index
            if not (moves and images_each):
                images += 1
                nfe += max(0, self._nfe_to(clean, self.sampler) - (nfe_each if moves else 0))
        saving = self.saving_seconds + SAVING_SECONDS_PER_PIXEL * self._pixels
        seconds = self._seconds_of("finish", images, nfe / images) if images else 0.0
        return Spent(images, nfe, 0, seconds + self._judging_seconds + saving)

    def _overdrawn(self) -> bool:
        """Whether what is kept back is more than what is left."""
        reserve, budget, spent = self._reserve(), self.budget, self._used()
        limits = (
            (budget.images, spent.images + reserve.images),
            (budget.nfe, spent.nfe + reserve.nfe),
            (budget.seconds, self.elapsed + reserve.seconds),
        )
        return any(limit is not None and needed > limit for limit, needed in limits)

    def _advance_kept(self, particle: Particle) -> None:
        """What is kept goes on being kept from where the first of its successors stands."""
        way = dict(_way(particle)) if self._kept else {}
        for key, kept in self._kept.items() if way else ():
            if kept.index < particle.index and kept.index <= way.get(kept.origin.id, -1):
                del self._kept[key]
                self._kept[particle.id] = particle
                return

    def _nfe_to(self, particle: Particle, sampler: Sampler) -> int:
        """What it costs to make a denoised particle from the last state on its way that is there."""
        source = self._states.source(particle)
        known = sampler.can_advance and self._states.estimated(source)
        looking = self._looking_costs(particle, sampler) if particle.index == sampler.schedule.steps else 0
        return self._nfe(sampler, source.index + known, particle.index) + looking

    def _nfe(self, sampler: Sampler, start: int, stop: int) -> int:
        """:meth:`Sampler.nfe`, which is asked for every particle of a round, remembered."""
        key = id(sampler), start, stop
        if key not in self._costs:
            self._costs[key] = sampler.nfe(start, stop)
        return self._costs[key]

    def _looking_costs(self, particle: Particle, sampler: Sampler) -> int:
        """NFE besides the way to its end for what a candidate looked like on the way."""
        index = self._preview_index(sampler)
        if index is None or particle.origin.index > index:
            return 0
        if self._states.source(particle).index <= index:
            return 0 if sampler.can_advance else 1
        there = self._denoised_from(particle.parent, index)
        if self._states.has(there):
            return 1
        return sampler.nfe(self._states.source(there).index, index) + 1

    def _preview_index(self, sampler: Sampler) -> int | None:
        """Where a verifier wants to see what a candidate looked like on the way; None where none does."""
        levels = [float(one.preview_sigma) for one in self.verifiers if hasattr(one, "preview_sigma")]
        return min(sampler.schedule.nearest(levels[0]), sampler.schedule.steps - 1) if levels else None

    def _groups(self, particles: Sequence[Particle], sampler: Sampler) -> list[tuple[int, list[Particle]]]:
        """Particles that can share a micro-batch, with what each costs."""
        sources = [self._states.source(p) for p in particles]
        keys = [
            (one.index, sampler.can_advance and self._states.estimated(one), sampler.remembers and _life(one),
             self._nfe_to(particle, sampler))
            for one, particle in zip(sources, particles, strict=True)
        ]  # fmt: skip
        return [(self._nfe_to(group[0], sampler), group) for _, group in _alike(keys, particles)]

    def _generate_some(self, some: Sequence[Particle], sampler: Sampler) -> None:
        stop = sampler.schedule.steps
        x, previews = self._to_the_end(some, sampler)
        images, flags = self._decoded(x, sampler)
        broken = {p.id: "nsfw" for p, flag in zip(some, flags, strict=True) if flag}
        broken |= {p.id: "nan" for p, good in zip(some, _finite(images), strict=True) if not good}
        images = torch.nan_to_num(images)
        record: dict[str, Any] = {"verb": "finish", "ids": [p.id for p in some], "seeds": [p.seed for p in some]}
        if previews is not None:
            record["previews"] = self._states.save_previews(some, previews)
        files, hashes, digests = [], [], []
        for place, (particle, array) in enumerate(zip(some, pixels_of(images), strict=True)):
            recipe = self.recipe(particle, len(some), place, self.store.run["versions"])
            hashes.append(pixel_hash(array))
            png = encode_png(array, {**recipe, "pixels": hashes[-1]})
            digests.append(digest_of(png))
            files.append(self.store.save_image(particle.id, png))
        record |= {"files": files, "pixels": hashes, "digests": digests, "steps": stop, **self._metered(sampler)}
        if any(flags):
            record["nsfw_content_detected"] = flags
        self._append({**record, "broken": broken} if broken else record, some)
        self._score_some(some, images, previews)

    def _decoded(self, x: Tensor, sampler: Sampler) -> tuple[Tensor, list[bool]]:
        """Images of clean states, and which of them a safety checker blacked out.

        Where memory runs out they are decoded in halves, since the steps before are paid already.
        """
        try:
            images = sampler.decode(x)
            return images, list(getattr(sampler, "flagged", None) or [False] * len(x))
        except Exception as error:
            if not out_of_memory(error) or len(x) == 1:
                raise
        parts = [self._decoded(part, sampler) for part in x.split((len(x) + 1) // 2)]
        return torch.cat([images for images, _ in parts]), [flag for _, flags in parts for flag in flags]

    def _whole(self, ids: Sequence[str]) -> list[bool]:
        """Which images verifiers are asked about: all but the broken ones."""
        return [self.ledger.images[key].broken is None for key in ids]

    def _to_the_end(self, some: Sequence[Particle], sampler: Sampler) -> tuple[Tensor, Tensor | None]:
        """Clean states, and the decoded estimates on the way that a verifier wants to see, where the way has them."""
        index = self._preview_index(sampler)
        sources = [self._states.source(p) for p in some]
        if index is None or some[0].origin.index > index:
            return self._carry(some, sampler)[0], None
        if sources[0].index > index:  # it was passed already: look back
            back = [self._denoised_from(p.parent, index) for p in some]
            known_there = all(self._states.has(p) for p in back)
            x, _ = self._states.batch(back, sampler) if known_there else self._carry(back, sampler)
            previews = sampler.decode(sampler.predict(x, index))
            return self._carry(some, sampler)[0], previews
        if sources[0].index == index:
            there: Sequence[Particle] = sources
            x, state = self._states.batch(there, sampler)
        else:
            there = [self._denoised_from(p.parent, index) for p in some]
            x, state = self._carry(there, sampler)
        if self._states.estimated(there[0]):
            clean = self._states.estimates(there, sampler)
        else:
            clean = sampler.predict(x, index)
        previews = sampler.decode(clean)
        known = clean if sampler.can_advance else None
        return carry(there, sampler, x, state, sampler.schedule.steps, known)[0], previews

    def _score_some(self, some: Sequence[Particle], images: Tensor, previews: Tensor | None = None) -> None:
        began = time.perf_counter()
        found: dict[str, list[float]] = {}
        details: dict[str, Any] = {}
        self._doubt = None
        whole = self._whole([p.id for p in some])
        for verifier in self.verifiers:
            found[verifier.name] = self._scores(verifier, images, previews, patient=True, whole=whole)
            told = details_of(verifier, images, self.prompt, whole)
            if told is not None:
                details[verifier.name] = clean_all(told)
        took = round(time.perf_counter() - began, 6)
        self._pixels = images.shape[-1] * images.shape[-2]
        if self.budget.seconds is not None and not self._judging_seconds:
            self._time_judges(some[0].id, images[:1])
        record: dict[str, Any] = {"verb": "score", "ids": [p.id for p in some], "scores": found}
        if details:
            record["details"] = details
        self._append({**record, "seconds": {"verify": took}}, doubtful=self._doubt is not None)
        self._states.forget_previews(some)
        if len(self.candidates) >= FRUITLESS and self._doubt is None:
            self._check_scores()

    def _scores(
        self, verifier: Verifier, images: Tensor, previews: Tensor | None = None, patient: bool = False,
        whole: Sequence[bool] = (),
    ) -> list[float]:  # fmt: skip
        """A verifier's scores; NaN where it fails, unless it fails on several images and never gave a number yet.

        Where it fails on a single image and never gave a number, one who is ``patient`` gets NaN too, and ``_doubt``.
        """
        if hasattr(verifier, "preview_sigma") and previews is None:
            self.say(f"verifier {verifier.name} has no preview of some candidates, which begin after it; NaN for those")
            return [math.nan] * len(images)
        try:
            with deadline(self._seconds_left()):
                return score_whole(verifier, images, self.prompt, whole or [True] * len(images), previews)
        except TimeIsUp as error:
            self._doubt = error if patient else self._doubt
            self.say(f"{error} (NaN for {len(images)} images)")
            return [math.nan] * len(images)
        except VerifierFailed as error:
            seen = self.ledger.previews.values()
            if not self.ledger.numbers.get(verifier.name) and all(
                math.isnan(one.get(verifier.name, math.nan)) for one in seen
            ):
                if not patient or len(images) > 1 or len(self._doubtful) + 1 >= FRUITLESS:
                    raise
                self._doubt = error
            self.say(f"{error} (NaN for {len(images)} images, perhaps for more later)")
            return [math.nan] * len(images)

    def _seconds_left(self) -> float | None:
        """How long a server may be waited for: what is left of a budget in seconds, or None without one."""
        left = None if self.budget.seconds is None else self.budget.seconds - self.elapsed
        return None if left is None else max(left, SHORTEST_WAIT_SECONDS)

    def _check_scores(self) -> None:
        """Raise VerifierFailed where no image has a number yet, or a verifier failed on all it was asked about."""
        if self._doubt is not None:
            raise self._doubt
        if self.candidates and not any(self.ledger.numbers.values()):
            names = ", ".join(verifier.name for verifier in self.verifiers)
            why = "; ".join(self.failures()) if not any(self._whole(list(self.candidates))) else names
            raise VerifierFailed(f"every score so far is NaN ({why}): expected at least one number")

    def _time_judges(self, key: str, image: Tensor) -> None:
        """How long the judges will take for baseline and best.

        The baseline, where the first image is it, is judged for good. The first answer of a judge that runs here is
        cold, so it is asked twice; what it says then is not looked at. A judge behind a server, which may cost money,
        is asked about the baseline alone.
        """
        is_baseline = key == self._baseline_particle().id
        seconds = 0.0
        for judge in self.judges:
            began = time.perf_counter()
            if is_baseline and judge.name not in self.ledger.judged.get(key, {}):
                self._judge_some(judge, [key])
            if not hasattr(judge, "usage") and self._whole([key])[0]:
                began = time.perf_counter()
                with suppress(VerifierFailed):
                    score(judge, image, self.prompt)
            seconds += time.perf_counter() - began
        self._judging_seconds = max(seconds * (1 if is_baseline else 2), 1e-6)

    def _denoise_some(self, some: Sequence[Particle]) -> None:
        x, solver_state = self._carry(some, self.sampler)
        digest = self._states.save(some, x, solver_state)
        ids = [p.id for p in some]
        self._append(
            {"verb": "denoise", "ids": ids, "to": some[0].index, "state": digest, **self._metered(self.sampler)}, some
        )

    def _carry(self, some: Sequence[Particle], sampler: Sampler) -> tuple[Tensor, Any]:
        """Denoise to particles at one index that all go on from states of one kind: (batch, ...), solver state."""
        sources = [self._states.source(p) for p in some]
        x, state = self._states.batch(sources, sampler)
        known = sampler.can_advance and self._states.estimated(sources[0])
        clean = self._states.estimates(sources, sampler) if known else None
        return carry(sources, sampler, x, state, some[0].index, clean)

    def _ascend_some(self, some: Sequence[Particle]) -> None:
        args = some[0].args
        x, _ = self._states.batch([p.parent for p in some], self.sampler)
        start = self.schedule.start  # ascent is in the noise's own units, whatever the sampler's
        x = (x / start).clone().requires_grad_()
        images = self.sampler.trace(x * start)  # type: ignore[attr-defined]
        scores = sum(gradient_of(one, images, self.prompt) for one in self.verifiers)  # type: ignore[arg-type]
        radius = x.flatten(1).norm(dim=1)
        size = x[0].numel()
        prior = radius.square() / 2 - (size - 1) * radius.log()
        loss = args["norm_weight"] * prior - scores
        (slope,) = torch.autograd.grad(loss.sum(), x)
        slope = torch.nan_to_num(slope)
        norms = slope.flatten(1).norm(dim=1).clamp(min=1e-12)
        slope = slope * (args["clip"] / norms).clamp(max=1).view(-1, *[1] * (x.ndim - 1))
        before = torch.cat([x.new_zeros(1, *x.shape[1:]) + self._states.velocity(p.parent) for p in some])
        velocity = slope + args["momentum"] * before
        step = slope + args["momentum"] * velocity
        digest = self._states.save(some, start * (x.detach() - args["rate"] * step), velocity)
        self._append(
            {
                "verb": "ascend",
                "ids": [p.id for p in some],
                "objective": torch.as_tensor(scores).detach().flatten().tolist(),
                "state": digest,
                **self._metered(self.sampler),
            },
            some,
        )

    def _preview_some(self, some: Sequence[Particle]) -> None:
        known = self._states.estimated(some[0])
        digest = None
        if known:
            clean = self._states.estimates(some, self.sampler)
        else:
            x, _ = self._states.batch(some, self.sampler)
            clean = self.sampler.predict(x, some[0].index)
            digest = self._states.save_estimates(some, clean)
        images, flags = self._decoded(clean, self.sampler)
        whole = [good and not flag for good, flag in zip(_finite(images), flags, strict=True)]
        images = torch.nan_to_num(images)
        began = time.perf_counter()
        found = {verifier.name: self._scores(verifier, images, whole=whole) for verifier in self.verifiers}
        metered = self._metered(self.sampler)
        metered["seconds"]["verify"] = round(time.perf_counter() - began, 6)
        record = {"verb": "preview", "ids": [p.id for p in some], "index": some[0].index, "scores": found}
        self._append({**record, **({} if known else {"state": digest}), **metered}, some)

    def _image_of(self, key: str) -> Tensor:
        made = self.ledger.images[key]
        image = self.store.image(made.file, made.pixels)
        if image is None:
            raise ValueError(f"expected the image {self.store.root / made.file} as it was made, got another or none")
        return image

    # The journal

    def _metered(self, sampler: Sampler) -> dict[str, Any]:
        """What was counted since the last line."""
        taken = sampler.meter.since(self._meter)
        self._meter = sampler.meter.snapshot()
        return taken

    def _append(self, record: dict[str, Any], speaks_of: Sequence[Particle] = (), doubtful: bool = False) -> None:
        """Write a line of the journal and take it into account.

        Particles that it ``speaks_of`` are described where no line before it has done so. A ``doubtful`` one, of a
        verifier that may be broken, is written once that verifier has given a number: a run that ends before asks
        about its images again when it goes on.
        """
        described = {"particles": self.ledger.describe(speaks_of)} if speaks_of else {}
        record = without_nan({**record, **described, "elapsed": round(self.elapsed, 4)})
        if doubtful:
            self._doubtful.append(record)
        else:
            proven = self._doubtful if record["verb"] == "score" else []
            for one in [*proven, record]:
                self.store.append(one)
            del self._doubtful[: len(proven)]
        self._apply(record)

    def _replay(self) -> None:
        for number, record in enumerate(self.store.records, start=1):
            self._apply(check_record(record, f"line {number} of {self.store.root / 'journal.jsonl'}"))
        images = self.ledger.images
        lost = [
            key for key, made in images.items()
            if key in self.ledger.unknown or not self.store.holds(made.file, made.pixels, made.digest)
        ]  # fmt: skip
        if lost:  # their lines are in the journal but their files did not survive whole: make them again
            self.say(f"{len(lost)} of the images in {self.store.root} were lost or damaged; they are made again")
            self.ledger.forget(lost)
            self._leaders.clear()
            for one in self.candidates.values():
                self._lead(one)

    def _apply(self, record: dict[str, Any]) -> None:
        """Take a line of the journal into account; live and replayed lines go through here alike."""
        self.ledger.apply(record)
        verb = record["verb"]
        some = self.ledger.of(record["ids"]) if verb in ("denoise", "ascend", "preview") else None
        if some is not None and verb == "preview":
            if "state" in record or "lineages" in record:
                self._states.note_estimated(some, record.get("state"))
        elif some is not None:
            self._states.note_reached(some, record.get("state"))
        elif verb == "finish" and "previews" in record:
            self._states.note_finished(record["ids"], record["previews"])
        elif verb == "score":
            for key in record["ids"]:
                if key in self.candidates:
                    self._lead(self.candidates[key])
        elif verb == "shrink":
            self.executor.batch_size = min(self.executor.batch_size, record["batch_size"])

    def _lead(self, one: Candidate) -> None:
        """Keep the best of each number of steps at hand, for a single verifier; ties go to the earlier."""
        before = self._leaders.get(one.particle.steps)
        if before is None or before.id == one.id or self.top([before, one])[0] is one:
            self._leaders[one.particle.steps] = one

    def _on_shrink(self, size: int) -> None:
        self.say(f"out of memory: micro-batches of {size} from here on")
        self._append({"verb": "shrink", "batch_size": size, **self._metered(self.sampler)})


def _finite(images: Tensor) -> list[bool]:
    """Which images have no NaN and no infinity."""
    found: list[bool] = images.flatten(1).isfinite().all(1).tolist()
    return found


def _distinct(particles: Sequence[Particle]) -> list[Particle]:
    return list({p.id: p for p in particles}.values())


def without_gradient(sampler: Sampler, verifiers: Sequence[Verifier]) -> list[str]:
    """What of these has no gradient: a sampler ``trace``s, a verifier gives ``gradient_scores``."""
    names = [one.name for one in verifiers if not hasattr(one, "gradient_scores")]
    if not isinstance(sampler, DifferentiableSampler):
        names.append(str(sampler.description.get("model", "the sampler")))
    elif not sampler.differentiable:
        names.append(f"the solver {sampler.description.get('solver')}" + " with eta" * sampler.stochastic)
    return names


def _alike(keys: Sequence[Any], particles: Sequence[Particle]) -> list[tuple[Any, list[Particle]]]:
    """Particles in groups of equal keys, in order of first appearance."""
    groups: dict[Any, list[Particle]] = {}
    for key, particle in zip(keys, particles, strict=True):
        groups.setdefault(key, []).append(particle)
    return list(groups.items())


def _way(particle: Particle) -> Iterator[tuple[str, int]]:
    """The draws that a particle comes from by steps and forks alone, each with how far along it the way went."""
    while True:
        yield particle.origin.id, particle.index
        particle = particle.origin
        if particle.verb != "fork":
            return
        particle = particle.parent


def _life(particle: Particle) -> int:
    """The index at which a particle's life began: the solver's states of those that began elsewhere are not alike."""
    while particle.verb in ("denoise", "fork"):
        particle = particle.parent
    return particle.index


def _check_start(particle: Particle) -> None:
    if particle.index != 0:
        raise ValueError(f"expected a particle of pure noise (index 0), got index {particle.index}")


def _retarget(particle: Particle, steps: int) -> Particle:
    """The same starting noise on a schedule of another number of steps.

    Raises:
        ValueError: where the particle was touched after its start, which has no counterpart on another schedule.
    """
    if particle.verb == "noise":
        return noise_particle(int(particle.args["seed"]), steps)
    if particle.verb in ("vary", "place", "blend"):
        return Particle(particle.verb, tuple(_retarget(p, steps) for p in particle.parents), particle.args, 0, steps)
    if particle.verb == "denoise" and particle.index == particle.steps:
        return _retarget(particle.parent, steps)
    raise ValueError(f"a search that uses {particle.verb} cannot search with fewer steps than it renders with")
