"""The run: the verbs a search is written in, with the budget, the journal and the micro-batches behind them.

A search function receives a :class:`Run` and calls its verbs on particles. It contains no budget, persistence,
batching or device code: a verb whose work is already in the journal is a look-up, and a verb that the budget does not
allow raises :class:`~noisewright.errors.BudgetExhausted`, which the search lets pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.executors.local import LocalExecutor
from noisewright.executors.protocol import Executor
from noisewright.outside.texts import clean
from noisewright.run.budget import Budget, Spent
from noisewright.run.engine import Engine
from noisewright.run.gradients import without_gradient as without_gradient
from noisewright.run.ledger import Ledger
from noisewright.run.particle import Candidate, Particle, noise_particle
from noisewright.run.ranking import CurvePoint, Preview, Ranking, Scored, Target
from noisewright.run.reserve import Work
from noisewright.run.store import Store
from noisewright.run.ways import check_start, distinct, in_full
from noisewright.samplers.optional import composes
from noisewright.samplers.protocol import Sampler
from noisewright.verifiers.protocol import Verifier


class Run:
    """The live handle that a search holds.

    Args:
        store: where it is recorded.
        sampler: the model that the search samples with.
        verifiers: what the search sees; at least one, names distinct.
        seed: S; the starting noises carry the seeds S, S + 1, S + 2, ...
        budget: the limits.
        ensemble: how several verifiers become one value: ``rank``, ``zsum`` or weights in the verifiers' order, as
            :func:`noisewright.run.ensembles.read_ensemble` gives them.
        target: when to stop early.
        final: the sampler that renders the result, where it is not the one the search samples with.
        search: the search's name, for the records.
        batch_size: the first micro-batch size.
        judges: what :meth:`judge` will ask at the end; a budget in seconds keeps their time back.
        winners: how many of the best the result shows, and are judged.
        pictures: whether a contact sheet and plots come at the end, which a budget in seconds keeps time back for.
        draft: that ``sampler`` makes of ``final``'s images (:attr:`~noisewright.schemas.drafts.Draft.text`), or None.
        finalists: how many of the best are rendered in full where it has its own sampler; by default ``winners``, and
            those in any case, others as far as a budget in seconds has time for them.
        executor: where jobs are done; None does them in this process, in turn. See
            :class:`noisewright.executors.protocol.Executor`.
        on_progress: called after each micro-batch.
    """

    def __init__(
        self, store: Store, sampler: Sampler, verifiers: Sequence[Verifier], *, seed: int = 0,
        budget: Budget | None = None, ensemble: str = "rank", target: Target | None = None,
        final: Sampler | None = None, search: str = "random", batch_size: int = 8, judges: Sequence[Verifier] = (),
        winners: int = 1, pictures: bool = True, draft: str | None = None, finalists: int | None = None,
        executor: Executor | None = None, on_progress: Callable[[Run], None] | None = None,
    ) -> None:  # fmt: skip
        names = [one.name for one in verifiers]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"expected at least one verifier, with distinct names, got {', '.join(names) or 'none'}")
        self.store = store
        self.sampler = sampler
        self.prompt = str(sampler.description["prompt"])
        self.final = final or sampler
        self.verifiers = list(verifiers)
        self.judges = list(judges)
        self.winners = winners
        self.draft = draft
        self.finalists = winners if finalists is None else finalists
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
        self.ranking = Ranking(tuple(names), ensemble)
        self._engine = Engine(
            store, sampler, self.final, self.verifiers, self.judges, self.executor, seed=seed, budget=self.budget,
            target=self.target, ranking=self.ranking, winners=winners, finalists=self.finalists, pictures=pictures,
            kind=self.kind, batch_size=batch_size, name=search, say=self.say, on_progress=self._tell_progress,
        )  # fmt: skip

    # What the journal says

    @property
    def ledger(self) -> Ledger:
        """The sum of the journal's lines."""
        return self._engine.ledger

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
    def kind(self) -> tuple[int, str | None]:
        """What the search's own particles are (:attr:`Particle.kind`)."""
        return self.steps, self.draft

    @property
    def full_kind(self) -> tuple[int, str | None]:
        """What is rendered in full."""
        return self.final.schedule.steps, None

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
        return [self.noise_of(self.seed + first + k) for k in range(count)]

    def noise_of(self, seed: int) -> Particle:
        """The starting noise of a seed, as the search makes images of it. Free."""
        return noise_particle(seed, self.steps, self.draft, None if self.draft is None else self.final.schedule.steps)

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
        return Particle("blend", tuple(particles), {"weights": [float(w) for w in weights]}, 0,
                        particles[0].steps)  # fmt: skip

    def place(self, particle: Particle, at: Sequence[float]) -> Particle:
        """The point ``at`` of a slice of noise around another (:func:`noisewright.diffusion.noise.place`). Free."""
        check_start(particle)
        return Particle("place", (particle,), {"at": [float(value) for value in at]}, 0, particle.steps)

    def renoise(self, particle: Particle, to: int, count: int = 1) -> list[Particle]:
        """``count`` copies of a particle carried back to the earlier index ``to``, each with fresh noise. Free.

        Where the pipeline makes its first state itself, of an image and noise, index 1 is the earliest.
        """
        if not 0 <= to <= particle.index:
            raise ValueError(f"expected an index in [0, {particle.index}], got {to}")
        if to == 0 < particle.index and composes(self.sampler):
            to = 1
            self.say("states are carried back to index 1 at most: that of index 0 is made of an image and noise inside")
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
        after = [self._engine.ways.denoised(p, to) for p in particles]
        todo = distinct([p for p in after if p.verb == "denoise" and not self._engine.states.has(p)])
        for nfe_each, group in self._engine.costs.groups(todo, self.sampler):
            self._engine.work(Work("denoise", nfe_each), group, self._engine.commits.denoising())
        for particle in after:
            self._engine.reserve.advance_kept(particle)
        return after

    def preview(self, particles: Sequence[Particle]) -> list[Preview]:
        """Score the clean estimates of particles at an intermediate index.

        Costs one NFE each, which the next step from there does not cost again, where the solver is noisewright's.
        """
        todo = distinct([p for p in particles if p.id not in self.ledger.previews])
        for nfe_each, group in self._engine.costs.groups_to_preview(todo, self.sampler):
            self._engine.work(Work("preview", nfe_each), group, self._engine.commits.previewing())
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
        todo = distinct([p for p in after if not self._engine.states.has(p)])
        if todo:
            self._engine.work(Work("ascend", self.sampler.nfe(0, self.steps)), todo, self._engine.commits.ascending())
        return after

    def keep(self, particles: Sequence[Particle]) -> None:
        """Hold back from the budget what finishing these takes, in place of those kept before.

        Whatever ends the search, they are finished, as far as the budget had room for them when they were kept. A kept
        particle that is denoised or previewed goes on being kept from where it stands then.
        """
        self._engine.reserve.keep(particles)

    def finish(self, particles: Sequence[Particle], sampler: Sampler | None = None) -> list[Candidate]:
        """Denoise particles to the end, decode, save and score them, by default as the search makes images.

        Costs ``N - index`` steps each.

        Raises:
            BudgetExhausted: after as many as the budget allows.
            TargetReached: after the micro-batch in which a candidate reached the target.
            VerifierFailed: where a verifier fails; the images are kept.
        """
        return self._engine.finish(particles, sampler or self.sampler)

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
        return self._engine.recall(particle)

    # What came of it

    @property
    def best(self) -> Candidate | None:
        """The best rendering so far: of the final steps where any is there, else of the search's."""
        if len(self.verifiers) == 1:  # its score is the value: no need to look at the whole pool
            return self._engine.leaders.of(self.full_kind) or self._engine.leaders.of(self.kind)
        pool = list(self.candidates.values())
        full = [one for one in pool if one.particle.kind == self.full_kind]
        return self.top(full or pool)[0] if pool else None

    @property
    def best_first(self) -> list[Candidate]:
        """Every candidate, best first: full renderings before drafts, whose scores do not compare."""
        pool = list(self.candidates.values())
        kinds = ([one for one in pool if (one.particle.kind == self.full_kind) == full] for full in (True, False))
        return [one for kind in kinds for one in self.ranking.top(kind, len(kind))]

    @property
    def baseline(self) -> Candidate | None:
        """What the model gives by itself for the seed S, or None where it is not made yet."""
        return self.candidates.get(self._engine.ways.finished_noise(self.seed, self.final.schedule.steps).id)

    @property
    def draft_baseline(self) -> Candidate | None:
        """The seed S as the search makes images, where that was made."""
        return self.candidates.get(self._engine.ways.finished(self.noise_of(self.seed)).id)

    def judge(self) -> dict[str, dict[str, float]]:
        """Scores of the winners and the baseline by verifiers that the search never saw, by candidate id."""
        every = (self.baseline, *self.best_first[: self.winners])
        shown = list(dict.fromkeys(one.id for one in every if one is not None))
        self._engine.scores.judge(shown)
        return {key: dict(self.ledger.judged.get(key, {})) for key in shown}

    def failures(self) -> list[str]:
        """A sentence for each verifier that gave NaN, however many processes it took."""
        return self._engine.scores.failures()

    def bills(self) -> list[str]:
        """A sentence for each verifier and judge that asked a server in this process: how much, and at what cost."""
        return self._engine.scores.bills()

    def curve(self) -> list[CurvePoint]:
        """Best-so-far after each candidate of the search, in order; the value never falls."""
        return self.ranking.curve(self.ledger.scored(self.kind))

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, in all the processes that worked on it."""
        return self._engine.elapsed()

    @property
    def batch_size(self) -> int:
        """The largest micro-batch; it shrinks when memory runs out."""
        return self._engine.batches.batch_size

    # The end

    def stop(self) -> None:
        """End the run as Ctrl-C does, once the micro-batch in flight is there. From any thread."""
        self._engine.stop()

    def render(self) -> int:
        """Make what the result shows, from the reserve: what was kept, the baseline, and of drafts the best in full.

        Returns:
            For how many of the best drafts there was no time.
        """
        self._engine.finish(list(self._engine.reserve.kept.values()), self.sampler, reserved=True)
        wanted = [noise_particle(self.seed, self.final.schedule.steps)]
        if self.final is not self.sampler and self.candidates:
            best = self.top([one for one in self.candidates.values() if one.particle.kind == self.kind], self.finalists)
            wanted += [in_full(one.particle, self.final.schedule.steps, self.ledger.images) for one in best]
        lacking = self._engine.render(wanted, self.final)
        if lacking:
            self.say(f"time for {len(wanted) - 1 - lacking} of the best {len(wanted) - 1} drafts in full")
        if self.budget.nfe is not None and self.spent.nfe > self.budget.nfe:
            self.say(f"{self.spent.nfe} of {self.budget.nfe} NFE: work that ran out of memory counts too")
        self._engine.scores.check()
        return lacking

    def search_in_full(self) -> None:
        """Make no drafts from here on."""
        self.sampler, self.draft = self.final, None
        self._engine.reserve.search_in_full()

    def finish_one(self) -> None:
        """Finish the baseline alone, from where its micro-batch stood, for a run that is stopped before anything is."""
        if not self.candidates:
            self._engine.go_on()
            self._engine.finish([self.noise_of(self.seed)], self.sampler, reserved=True)

    def close(self) -> None:
        """Let go of the executor's workers."""
        self.executor.close()

    def recipe(self, particle: Particle, size: int, place: int, versions: dict[str, str]) -> dict[str, Any]:
        """What makes a candidate again: the sampler, the lineage, and the micro-batch it was made in."""
        return self._engine.recipes.of(particle, size, place, versions)

    # Behind the verbs

    def _next_draws(self, verb: str, particle: Particle, count: int) -> range:
        key = f"{verb}:{particle.id}"
        first = self._draws.get(key, 0)
        self._draws[key] = first + count
        return range(first, first + count)

    def _tell_progress(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self)
