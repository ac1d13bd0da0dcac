"""The run: the verbs a search is written in, with the budget, the journal and the micro-batches behind them.

A search function receives a :class:`Run` and calls its verbs on particles. It contains no budget, persistence,
batching or device code: a verb whose work is already in the journal is a look-up, and a verb that the budget does not
allow raises :class:`~noisewright.errors.BudgetExhausted`, which the search lets pass.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.errors import Stopped, TargetReached
from noisewright.executors.local import LocalExecutor
from noisewright.executors.protocol import Executor, Outcome
from noisewright.executors.worker import ModelWorker
from noisewright.outside.texts import clean
from noisewright.run.batches import Batches, Verb
from noisewright.run.budget import Budget, Spent
from noisewright.run.commit import Commits, Recipes
from noisewright.run.costs import Costs
from noisewright.run.jobs import Jobs
from noisewright.run.ledger import Ledger
from noisewright.run.particle import Candidate, Particle, noise_particle
from noisewright.run.ranking import CurvePoint, Leaders, Preview, Ranking, Scored, Target
from noisewright.run.recorder import Recorder
from noisewright.run.reserve import SAVING_SECONDS as SAVING_SECONDS
from noisewright.run.reserve import Reserve, Work
from noisewright.run.scores import Scores
from noisewright.run.store import Store
from noisewright.run.ways import Ways, check_start, distinct, with_steps
from noisewright.samplers.protocol import DifferentiableSampler, Sampler
from noisewright.verifiers.protocol import DifferentiableVerifier, Verifier


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
        winners: how many of the best the result shows: they are rendered in full, and judged.
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
        winners: int = 1,
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
        self.winners = winners
        self.seed = seed
        self.budget = budget or Budget()
        self.ensemble = ensemble
        self.target = target or Target()
        self.search = search
        self.on_progress = on_progress
        self.executor: Executor = executor or LocalExecutor()
        self.warnings: list[str] = list(store.warnings)
        self._drawn = 0
        self._draws: dict[str, int] = {}
        self._stop = threading.Event()
        self._ending = False
        self._began, self._before = time.perf_counter(), 0.0
        self._build(batch_size)
        self._before = self.spent.seconds
        self._began = time.perf_counter()

    def _build(self, batch_size: int) -> None:
        """Put together what is behind the verbs, and read the journal."""
        search, final = self.sampler, self.final
        self.ranking = Ranking(tuple(verifier.name for verifier in self.verifiers), self.ensemble)
        self._leaders = Leaders(self.ranking)
        self._recorder = Recorder(self.store, self._leaders, self.say, lambda: self.elapsed)
        self._states = self._recorder.states
        self._ways = Ways()
        self._costs = Costs(self._states, self._ways, self.verifiers)
        self._reserve = Reserve(
            self.budget, self.ledger, self._costs, self._ways, search, final, self.seed, lambda: self.elapsed,
            self.winners,
        )  # fmt: skip
        self._jobs = Jobs(self._states, self._ways, self._costs, search)
        self._recipes = Recipes(search, final, self.search)
        self._scores = Scores(
            self.verifiers, self.judges, self.prompt, self.executor, self._recorder, self._reserve, self.store,
            self.say, lambda: self.elapsed,
        )  # fmt: skip
        self._commits = Commits(self.store, self._recorder, self._jobs, self._scores, self._recipes, self._overlaps)
        self._batches = Batches(
            self.executor, self._reserve, batch_size, on_shrink=self._note_shrink, on_interrupt=self._keep_reached,
            check=self._check_stop,
        )  # fmt: skip
        self.executor.start(ModelWorker(search, final, self.verifiers, self.judges), self.store.run.get("request"))
        self._recorder.replay()
        self._batches.shrink_to(self.ledger.batch_size)

    # What the journal says

    @property
    def ledger(self) -> Ledger:
        """The sum of the journal's lines."""
        return self._recorder.ledger

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

    def noise(self, count: int) -> list[Particle]:
        """The next ``count`` starting noises: seeds S + k, each as plain diffusers draws it. Free."""
        first = self._drawn
        self._drawn += count
        return [noise_particle(self.seed + first + k, self.steps) for k in range(count)]

    def vary(self, particle: Particle, count: int, cosine: float) -> list[Particle]:
        """``count`` new neighbours of a starting noise at a fixed angle, norm kept. Free.

        See :func:`noisewright.diffusion.noise.rotate`. Calling twice gives new neighbours.
        """
        check_start(particle)
        draws = self._next_draws("vary", particle, count)
        return [Particle("vary", (particle,), {"cosine": cosine, "draw": draw}, 0, particle.steps) for draw in draws]

    def blend(self, particles: Sequence[Particle], weights: Sequence[float]) -> Particle:
        """The weighted mean of starting noises at their norm (:func:`noisewright.diffusion.noise.blend`). Free."""
        for particle in particles:
            check_start(particle)
        return Particle("blend", tuple(particles), {"weights": [float(w) for w in weights]}, 0, self.steps)

    def place(self, particle: Particle, at: Sequence[float]) -> Particle:
        """The point ``at`` of a slice of noise around another (:func:`noisewright.diffusion.noise.place`). Free."""
        check_start(particle)
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
            raise ValueError(f"expected an index in [1, {self.steps - 1}], got {to}")
        after = [self._ways.denoised(p, to) for p in particles]
        todo = distinct([p for p in after if p.verb == "denoise" and not self._states.has(p)])
        for nfe_each, group in self._costs.groups(todo, self.sampler):
            self._work(Work("denoise", nfe_each), group, self._commits.denoising())
        for particle in after:
            self._reserve.advance_kept(particle)
        return after

    def preview(self, particles: Sequence[Particle]) -> list[Preview]:
        """Score the clean estimates of particles at an intermediate index.

        Costs one NFE each, which the next step from there does not cost again, where the solver is noisewright's.
        """
        todo = distinct([p for p in particles if p.id not in self.ledger.previews])
        for nfe_each, group in self._costs.groups_to_preview(todo, self.sampler):
            self._work(Work("preview", nfe_each), group, self._commits.previewing())
        return [Preview(p, self.ledger.previews[p.id]) for p in particles]

    def ascend(
        self, particles: Sequence[Particle], *, rate: float, momentum: float, clip: float, norm_weight: float
    ) -> list[Particle]:
        """One step of gradient ascent from starting noises (:func:`noisewright.diffusion.reno.ascended`).

        Costs N steps each, and their backward passes.
        """
        args = {"rate": rate, "momentum": momentum, "clip": clip, "norm_weight": norm_weight}
        for particle in particles:
            check_start(particle)
        after = [Particle("ascend", (p,), args, 0, p.steps) for p in particles]
        todo = distinct([p for p in after if not self._states.has(p)])
        if todo:
            self._work(Work("ascend", self.sampler.nfe(0, self.steps)), todo, self._commits.ascending())
        return after

    def keep(self, particles: Sequence[Particle]) -> None:
        """Hold back from the budget what finishing these takes, in place of those kept before.

        Whatever ends the search, they are finished, as far as the budget had room for them when they were kept. A kept
        particle that is denoised or previewed goes on being kept from where it stands then.
        """
        self._reserve.keep(particles)

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
        return self.ranking.values(scored)

    def top(self, scored: Sequence[Scored], count: int = 1) -> list[Scored]:
        """The best ``count`` candidates or previews, best first; ties go to the earlier, NaN ranks last."""
        return self.ranking.top(scored, count)

    def say(self, text: str) -> None:
        """Tell the person something about the run, once."""
        text = clean(text, 1000)
        if text not in self.warnings:
            self.warnings.append(text)

    def state(self, particle: Particle) -> Tensor:
        """The state (1, ...) of a particle: kept, or made again from its lineage at the cost of its steps."""
        made = self.executor.submit(self._jobs.recall([particle])).result()
        self._states.remember(made.made, made.estimates)
        self._recorder.owe(dict(made.metered))
        assert made.states is not None  # noqa: S101 - recalling gives states
        return made.states[0]

    # What came of it

    @property
    def best(self) -> Candidate | None:
        """The best rendering so far: of the final steps where any is there, else of the search's."""
        steps = self.final.schedule.steps
        if len(self.verifiers) == 1:  # its score is the value: no need to look at the whole pool
            return self._leaders.of(steps) or self._leaders.of(self.steps)
        pool = list(self.candidates.values())
        full = [one for one in pool if one.particle.steps == steps]
        return self.top(full or pool)[0] if pool else None

    @property
    def best_first(self) -> list[Candidate]:
        """Every candidate, best first: full renderings before those of fewer steps, whose scores do not compare."""
        steps, pool = self.final.schedule.steps, list(self.candidates.values())
        kinds = ([one for one in pool if (one.particle.steps == steps) == full] for full in (True, False))
        return [one for kind in kinds for one in self.ranking.top(kind, len(kind))]

    @property
    def baseline(self) -> Candidate | None:
        """What the model gives by itself for the seed S, or None where it is not made yet."""
        return self.candidates.get(self._ways.finished_noise(self.seed, self.final.schedule.steps).id)

    @property
    def draft_baseline(self) -> Candidate | None:
        """The seed S with the search's own steps, where that was made."""
        return self.candidates.get(self._ways.finished_noise(self.seed, self.steps).id)

    def judge(self) -> dict[str, dict[str, float]]:
        """Scores of the winners and the baseline by verifiers that the search never saw, by candidate id."""
        every = (self.baseline, *self.best_first[: self.winners])
        shown = list(dict.fromkeys(one.id for one in every if one is not None))
        self._scores.judge(shown)
        return {key: dict(self.ledger.judged.get(key, {})) for key in shown}

    def failures(self) -> list[str]:
        """A sentence for each verifier that gave NaN, however many processes it took."""
        return self._scores.failures()

    def bills(self) -> list[str]:
        """A sentence for each verifier and judge that asked a server in this process: how much, and at what cost."""
        return self._scores.bills()

    def curve(self) -> list[CurvePoint]:
        """Best-so-far after each candidate of the search, in order; the value never falls."""
        return self.ranking.curve(self.ledger.scored(self.steps))

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, in all the processes that worked on it."""
        return self._before + time.perf_counter() - self._began

    @property
    def batch_size(self) -> int:
        """The largest micro-batch; it shrinks when memory runs out."""
        return self._batches.batch_size

    # The end

    def stop(self) -> None:
        """End the run as Ctrl-C does, once the micro-batch in flight is there. From any thread."""
        self._stop.set()

    def render(self) -> None:
        """Make what the result shows: what was kept, the baseline, and with a short search schedule the winner in full.

        The reserve that every verb kept back pays for it.
        """
        self._finish(list(self._reserve.kept.values()), self.sampler, reserved=True)
        wanted = [noise_particle(self.seed, self.final.schedule.steps)]
        if self.final is not self.sampler and self.candidates:
            drafts = [one for one in self.candidates.values() if one.particle.steps == self.steps]
            best = self.top(drafts, self.winners)
            wanted += [with_steps(one.particle, self.final.schedule.steps) for one in best]
        self._finish(wanted, self.final, reserved=True)
        if self.budget.nfe is not None and self.spent.nfe > self.budget.nfe:
            self.say(f"{self.spent.nfe} of {self.budget.nfe} NFE: work that ran out of memory counts too")
        self._scores.check()

    def finish_one(self) -> None:
        """Finish the baseline alone, where nothing is finished yet: something to look at when a run is stopped early.

        It goes on from where its micro-batch stood.
        """
        if not self.candidates:
            self._ending = True
            self._finish([noise_particle(self.seed, self.steps)], self.sampler, reserved=True)

    def close(self) -> None:
        """Let go of the executor's workers."""
        self.executor.close()

    def recipe(self, particle: Particle, size: int, place: int, versions: dict[str, str]) -> dict[str, Any]:
        """What makes a candidate again: the sampler, the lineage, and the micro-batch it was made in."""
        return self._recipes.of(particle, size, place, versions)

    # Behind the verbs

    def _next_draws(self, verb: str, particle: Particle, count: int) -> range:
        key = f"{verb}:{particle.id}"
        first = self._draws.get(key, 0)
        self._draws[key] = first + count
        return range(first, first + count)

    def _finish(self, particles: Sequence[Particle], sampler: Sampler, reserved: bool = False) -> list[Candidate]:
        clean = [self._ways.denoised(p, sampler.schedule.steps) for p in particles]
        unscored = [p for p in distinct(clean) if p.id in self.ledger.images and p.id not in self.candidates]
        if unscored:  # made by a process that stopped before it could score them
            self._scores.ask(unscored)
        if not reserved:
            self._check_target(clean)  # a process that stopped between reaching it and saying so
        todo = [p for p in distinct(clean) if p.id not in self.candidates]
        for nfe_each, group in self._costs.groups(todo, sampler):
            self._work(Work("finish", nfe_each, 1, reserved), group, self._commits.finishing(sampler))
        return [self.candidates[p.id] for p in clean]

    def _work(self, work: Work, group: Sequence[Particle], verb: Verb) -> None:
        """Have a verb done to equal particles, as far as the budget allows."""

        def after(some: Sequence[Particle]) -> None:
            if self.on_progress is not None:
                self.on_progress(self)
            if not work.reserved:
                self._check_target(some)

        scores = work.kind in ("finish", "preview")
        self._batches.run(
            work, group, verb, overlaps=self._overlaps if scores else lambda: True, after=after,
            owed_nfe=lambda: self._recorder.owed_nfe,
        )  # fmt: skip

    def _overlaps(self) -> bool:
        """Whether images may be scored while the next are made, without a difference but for the time."""
        return not self.target.scores and self._scores.overlap()

    def _check_target(self, some: Sequence[Particle]) -> None:
        """Raise TargetReached where one of ``some`` is scored and reaches the target."""
        for particle in some:
            one = self.candidates.get(particle.id)
            if one is not None and self.target.reached(one.scores):
                raise TargetReached(one.id)

    def _check_stop(self) -> None:
        """Raise Stopped where somebody asked for the end."""
        if not self._ending and (self._stop.is_set() or self.store.is_asked_to_stop()):
            raise Stopped("stopped")

    def _keep_reached(self, some: Sequence[Particle], outcome: Outcome) -> None:
        """After Ctrl-C with nothing finished yet: the states that a micro-batch reached are there when it goes on."""
        index = outcome.index or 0
        if not self.candidates and index > self._states.source(some[0]).index:
            self._commits.reached([self._ways.denoised(one.parent, index) for one in some], outcome)

    def _note_shrink(self, size: int, failed: Outcome) -> None:
        self.say(f"out of memory: micro-batches of {size} from here on")
        self._recorder.append({"verb": "shrink", "batch_size": size, **failed.metered})


def without_gradient(sampler: Sampler, verifiers: Sequence[Verifier]) -> list[str]:
    """What of these has no gradient: a sampler ``trace``s, a verifier gives ``gradient_scores``."""
    names = [one.name for one in verifiers if not isinstance(one, DifferentiableVerifier)]
    if not isinstance(sampler, DifferentiableSampler):
        names.append(str(sampler.description.get("model", "the sampler")))
    elif not sampler.differentiable:
        names.append(f"the solver {sampler.description.get('solver')}" + " with eta" * sampler.stochastic)
    return names
