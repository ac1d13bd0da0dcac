"""Behind the verbs: the parts of a run, put together, and the way of particles through them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from noisewright.errors import Stopped, TargetReached
from noisewright.executors.protocol import Executor, LeavesFiles, Outcome
from noisewright.executors.worker import ModelWorker
from noisewright.run.batches import Batches, Verb
from noisewright.run.budget import Budget
from noisewright.run.commit import Commits, Recipes
from noisewright.run.costs import Costs
from noisewright.run.jobs import Jobs
from noisewright.run.particle import Candidate, Particle
from noisewright.run.ranking import Leaders, Ranking, Target
from noisewright.run.recorder import Recorder
from noisewright.run.reserve import Reserve, Work
from noisewright.run.scores import Scores
from noisewright.run.store import Store
from noisewright.run.ways import Ways, distinct
from noisewright.samplers.optional import frames_shown
from noisewright.samplers.protocol import Sampler
from noisewright.verifiers.protocol import Verifier


class Engine:
    """Particles in, candidates out: with the budget, the journal and the micro-batches.

    Args:
        store: where the run is recorded; what its journal says already is read.
        search, final: the samplers; one and the same where the search has no steps of its own.
        verifiers, judges: what the search sees, and what it never sees.
        executor: where jobs are done.
        seed, budget, target, winners, finalists, batch_size: as in :class:`noisewright.run.verbs.Run`.
        ranking: how candidates are sorted.
        kind: of the search's particles (:attr:`Particle.kind`).
        name: the search's.
        say: told what the person should know.
        on_progress: called after each micro-batch.

    Attributes:
        recorder: the journal; ``states`` what there is of unfinished particles.
        leaders: the best so far.
        ways: how particles go on.
        costs: what that costs; ``reserve`` what of the budget is kept back.
        scores: verifiers and judges.
        recipes: what makes candidates again.
        commits: what verbs do.
        batches: the micro-batches.
    """

    def __init__(
        self,
        store: Store,
        search: Sampler,
        final: Sampler,
        verifiers: Sequence[Verifier],
        judges: Sequence[Verifier],
        executor: Executor,
        *,
        seed: int,
        budget: Budget,
        target: Target,
        ranking: Ranking,
        winners: int,
        finalists: int,
        pictures: bool,
        batch_size: int,
        kind: tuple[int, str | None],
        name: str,
        say: Callable[[str], None],
        on_progress: Callable[[], None],
    ) -> None:
        self._store = store
        self._target = target
        self._executor = executor
        self._say = say
        self._on_progress = on_progress
        self._stop = threading.Event()
        self._ending = False
        self._began, self._before = time.perf_counter(), 0.0
        self.leaders = Leaders(ranking)
        self.recorder = Recorder(store, self.leaders, say, self.elapsed)
        self.ledger, self.states = self.recorder.ledger, self.recorder.states
        self.ways = Ways()
        self.costs = Costs(self.states, self.ways, verifiers)
        self.reserve = Reserve(
            budget, self.ledger, self.costs, self.ways, search, final, seed, self.elapsed, winners, finalists, pictures
        )
        self._final, self._drafts = final, None if search is final else kind
        self.jobs = Jobs(self.states, self.ways, self.costs, self._drafts)
        self.recipes = Recipes(search, final, name)
        self.scores = Scores(
            verifiers, judges, str(search.description["prompt"]), executor, self.recorder, self.reserve, store, say,
            self.elapsed, frames_shown(search), str(search.description.get("device", "cpu")),
        )  # fmt: skip
        self.commits = Commits(
            store, self.recorder, self.jobs, self.scores, self.recipes, self._overlaps,
            isinstance(executor, LeavesFiles) and executor.leaves_files,
        )  # fmt: skip
        self.batches = Batches(
            executor, self.reserve, batch_size, on_shrink=self._note_shrink, on_interrupt=self._keep_reached,
            check=self._check_stop,
        )  # fmt: skip
        executor.start(ModelWorker(search, final, verifiers, judges), store.run.get("request"))
        self.recorder.replay()
        self.batches.shrink_to(self.ledger.batch_size)
        self._whole = False
        self._before, self._began = self.ledger.spent.seconds, time.perf_counter()

    def elapsed(self) -> float:
        """Seconds that the run has taken, in all the processes that worked on it."""
        return self._before + time.perf_counter() - self._began

    def stop(self) -> None:
        """Raise Stopped before the next micro-batch. From any thread."""
        self._stop.set()

    def go_on(self) -> None:
        """Do not raise Stopped any more: what is done from here on ends the run."""
        self._ending = True

    def finish(self, particles: Sequence[Particle], sampler: Sampler, reserved: bool = False) -> list[Candidate]:
        """Particles, finished and scored; what is ``reserved`` is paid whatever the budget says, and ends nothing."""
        ledger = self.ledger
        clean = [self.ways.denoised(p, sampler.schedule.steps) for p in particles]
        unscored = [p for p in distinct(clean) if p.id in ledger.images and p.id not in ledger.candidates]
        if unscored:  # made by a process that stopped before it could score them
            self.scores.ask(unscored)
        if not reserved:
            self._check_target(clean)  # a process that stopped between reaching it and saying so
        todo = [p for p in distinct(clean) if p.id not in ledger.candidates]
        for nfe_each, group in self.costs.groups(todo, sampler):
            kind = "finish" if self._drafts is None or group[0].kind == self._drafts else "render"
            self.work(Work(kind, nfe_each, 1, reserved), group, self.commits.finishing(sampler))
        return [ledger.candidates[p.id] for p in clean]

    def render(self, particles: Sequence[Particle], sampler: Sampler) -> int:
        """Full images from what was kept back: of the baseline, the winners, and as many more as there is time for.

        Args:
            particles: the baseline, then what the best drafts are drafts of, the best first.
            sampler: that makes them.

        Returns:
            For how many there is no time.
        """
        ends = [self.ways.denoised(p, sampler.schedule.steps).id for p in particles]
        known = [p for p, end in zip(particles, ends, strict=True) if end in self.ledger.particles]
        self.finish(known, sampler, reserved=True)  # not scored yet by a process that stopped, or lost since
        todo = {end: p for end, p in zip(ends, particles, strict=True) if end not in self.ledger.candidates}
        least = len({end for end in ends[: 1 + self.reserve.winners] if end in todo})
        missing, made = list(todo.values()), 0
        while made < len(missing):
            count = max(least - made, self.reserve.room_in_full(len(missing) - made))
            if count <= 0:
                break
            self.finish(missing[made : made + count], sampler, reserved=True)
            made += count
        return len(missing) - made

    def work(self, work: Work, group: Sequence[Particle], verb: Verb) -> None:
        """Have a verb done to equal particles, as far as the budget allows.

        Raises:
            BudgetExhausted: after as many as it allows.
            TargetReached: after the micro-batch in which a candidate reached the target.
            Stopped: after the micro-batch in which somebody asked for the end.
        """

        def after(some: Sequence[Particle]) -> None:
            self._on_progress()
            if not work.reserved:
                self._check_target(some)

        scores = work.kind in ("finish", "render", "preview")
        self.batches.run(
            work, group, verb, overlaps=self._overlaps if scores else lambda: True, after=after,
            owed_nfe=lambda: self.recorder.owed_nfe, at_most=lambda: self._at_most(work),
        )  # fmt: skip

    @contextmanager
    def in_whole_batches(self) -> Iterator[None]:
        """A target makes no micro-batch smaller: what is timed here stands for the search's own."""
        self._whole = True
        try:
            yield
        finally:
            self._whole = False

    def _at_most(self, work: Work) -> int | None:
        """With a target micro-batches double from one image on, so that no more is made beside what reaches it than was
        made before.
        """
        waits = self._target.scores and work.images_each and not work.reserved and not self._whole
        return max(1, len(self.ledger.candidates)) if waits else None

    def recall(self, particle: Particle) -> Tensor:
        """A particle's state (1, ...)."""
        made = self._executor.submit(self.jobs.recall([particle])).result()
        self.states.remember(made.made, made.estimates)
        self.recorder.owe(dict(made.metered))
        assert made.states is not None  # noqa: S101 - recalling gives states
        return made.states[0]

    def _overlaps(self) -> bool:
        """Whether images may be scored while the next are made, without a difference but for the time."""
        return not self._target.scores and self.scores.overlap()

    def _check_target(self, some: Sequence[Particle]) -> None:
        """Raise TargetReached where one of ``some`` is scored and reaches the target.

        A draft reaches nothing: one that is expected to is made in full, and that decides.
        """
        for particle in some:
            one = self.ledger.candidates.get(particle.id)
            if one is None or not self._target.scores:
                continue
            if particle.draft is None:
                if self._target.reached(one.scores):
                    raise TargetReached(one.id)
                continue
            shift = (self.ledger.proof or {}).get("shift", {})
            expected = {name: score + shift.get(name, 0.0) for name, score in one.scores.items()}
            if self._target.reached(expected):
                self.finish([particle.full], self._final)

    def _check_stop(self) -> None:
        """Raise Stopped where somebody asked for the end."""
        if not self._ending and (self._stop.is_set() or self._store.is_asked_to_stop()):
            raise Stopped("stopped")

    def _keep_reached(self, some: Sequence[Particle], outcome: Outcome) -> None:
        """After Ctrl-C with nothing finished yet: the states that a micro-batch reached are there when it goes on."""
        index = outcome.index or 0
        if not self.ledger.candidates and index > self.states.source(some[0]).index:
            self.commits.reached([self.ways.denoised(one.parent, index) for one in some], outcome)

    def _note_shrink(self, size: int, failed: Outcome) -> None:
        for note in failed.notes or (f"out of memory: micro-batches of {size} from here on",):
            self._say(note)
        self.recorder.append({"verb": "shrink", "batch_size": size, **failed.metered})
