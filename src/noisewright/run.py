"""The run: the verbs a search is written in, with the budget, the journal and the micro-batches behind them.

A search function receives a :class:`Run` and calls its verbs on particles. It contains no budget, persistence,
batching or device code: a verb whose work is already in the journal is a look-up, and a verb that the budget does not
allow raises :class:`~noisewright.errors.BudgetExhausted`, which the search lets pass.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from noisewright.budget import PHASES, Budget, Spent, affordable
from noisewright.errors import BudgetExhausted, TargetReached, VerifierFailed
from noisewright.executor import Executor, LocalExecutor
from noisewright.metadata import RECIPE_VERSION, encode_png, pixel_hash, pixels_of, without_nan
from noisewright.noise import gaussian, renoise, rotate
from noisewright.particle import (
    Candidate,
    Particle,
    ensemble_values,
    from_lineage,
    noise_particle,
    number_or_nan,
)
from noisewright.sampler import Meter, Sampler
from noisewright.store import Store
from noisewright.verifier import Verifier, score

CACHED_STATES_BYTES = 256 * 2**20
"""How much of the states of unfinished particles is held in memory; the rest is read from ``states/``."""

SAVING_SECONDS = 0.5
"""Kept back of a budget in seconds for the contact sheet and the plots."""


@dataclass(frozen=True)
class Preview:
    """The scores of a particle's clean estimate at an intermediate index; never compare one with a final score."""

    particle: Particle
    scores: dict[str, float]


@dataclass(frozen=True)
class CurvePoint:
    """The best so far after each scored candidate."""

    images: int
    nfe: int
    seconds: float
    value: float
    candidate: str


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
        ensemble: how several verifiers become one value: ``rank`` or ``zsum``.
        target: when to stop early.
        final: the sampler that renders the result, where it is not the one the search samples with.
        search: the search's name, for the records.
        batch_size: the first micro-batch size.
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
        self.seed = seed
        self.budget = budget or Budget()
        self.ensemble = ensemble
        self.target = target or Target()
        self.search = search
        self.on_progress = on_progress
        self.spent = Spent()
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.warnings: list[str] = []
        self.candidates: dict[str, Candidate] = {}
        self._scored = 0
        self._curve_at: list[tuple[str, int, int, float]] = []
        self._images: dict[str, dict[str, str]] = {}
        self._denoised: set[str] = set()
        self._previews: dict[str, dict[str, float]] = {}
        self._judged: dict[str, dict[str, float]] = {}
        self._cache: OrderedDict[str, tuple[Tensor, Any]] = OrderedDict()
        self._drawn = 0
        self._draws: dict[str, int] = {}
        self._seconds_per_nfe = 0.0
        self.executor = executor or LocalExecutor(batch_size, self._on_shrink)
        self._replay()
        self._before = self.spent.seconds
        self._began = time.perf_counter()
        # A fresh sampler has encoded the prompt already, for this run; a used one counted for others.
        self._meter = (Meter() if sampler.meter.nfe == 0 else sampler.meter).snapshot()

    # Verbs

    @property
    def steps(self) -> int:
        """N of the schedule that the search samples with."""
        return self.sampler.schedule.steps

    def noise(self, count: int) -> list[Particle]:
        """The next ``count`` starting noises: seeds S + k, each as plain diffusers draws it. Free."""
        first = self._drawn
        self._drawn += count
        return [noise_particle(self.seed + first + k, self.steps) for k in range(count)]

    def vary(self, particle: Particle, count: int, cosine: float) -> list[Particle]:
        """``count`` new neighbours of a starting noise at a fixed angle, norm kept. Free.

        See :func:`noisewright.noise.rotate`. Calling twice gives new neighbours.
        """
        if particle.index != 0:
            raise ValueError(f"expected a particle of pure noise (index 0), got index {particle.index}")
        draws = self._next_draws("vary", particle, count)
        return [
            Particle("vary", (particle,), {"cosine": cosine, "draw": draw}, 0, particle.steps) for draw in draws
        ]

    def renoise(self, particle: Particle, to: int, count: int = 1) -> list[Particle]:
        """``count`` copies of a particle carried back to the earlier index ``to``, each with fresh noise. Free."""
        if not 0 <= to <= particle.index:
            raise ValueError(f"expected an index in [0, {particle.index}], got {to}")
        draws = self._next_draws("renoise", particle, count)
        return [
            Particle("renoise", (particle,), {"to": to, "draw": draw}, to, particle.steps) for draw in draws
        ]

    def denoise(self, particles: Sequence[Particle], to: int) -> list[Particle]:
        """Carry particles to the later index ``to`` < N. Costs ``to - index`` steps each.

        Raises:
            BudgetExhausted: after as many as the budget allows.
        """
        if not 0 < to < self.steps:
            raise ValueError(f"expected an index in [1, {self.steps - 1}], got {to}; finish() goes to the end")
        after = [self._denoised_from(p, to) for p in particles]
        todo = _distinct([p for p in after if p.id not in self._denoised])
        for start, group in _by_index(todo):
            nfe_each = (to - start) * self.sampler.nfe_per_step
            self._work(group, self._denoise_some, nfe_each=nfe_each, images_each=0)
        return after

    def preview(self, particles: Sequence[Particle]) -> list[Preview]:
        """Score the clean estimates of particles at an intermediate index. Costs one NFE each."""
        todo = _distinct([p for p in particles if p.id not in self._previews])
        for _, group in _by_index(todo, parent=False):
            self._work(group, self._preview_some, nfe_each=self.sampler.nfe_per_step, images_each=0)
        return [Preview(p, self._previews[p.id]) for p in particles]

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

    def top(self, scored: Sequence[Candidate], count: int = 1) -> list[Candidate]:
        """The best ``count``, best first; ties go to the earlier, NaN ranks last."""
        values = self.value(scored)
        order = sorted(range(len(scored)), key=lambda n: (-values[n], scored[n].order))
        return [scored[n] for n in order[:count]]

    # What came of it

    @property
    def best(self) -> Candidate | None:
        """The best rendering so far: of the final steps where any is there, else of the search's."""
        pool = list(self.candidates.values())
        full = [one for one in pool if one.particle.steps == self.final.schedule.steps]
        return self.top(full or pool)[0] if pool else None

    @property
    def baseline(self) -> Candidate | None:
        """What the model gives by itself for the seed S, or None where it is not made yet."""
        return self.candidates.get(self._baseline_particle().id)

    def judge(self, judges: Sequence[Verifier]) -> dict[str, dict[str, float]]:
        """Scores of the best and the baseline by verifiers that the search never saw, by candidate id."""
        shown = {one.id: one for one in (self.baseline, self.best) if one is not None}
        for judge in judges:
            todo = [one for one in shown.values() if judge.name not in self._judged.get(one.id, {})]
            if not todo:
                continue
            began = time.perf_counter()
            images = torch.stack([self._image_of(one.id) for one in todo])
            found = score(judge, images, self.prompt)
            record = {"verb": "judge", "judge": judge.name, "ids": [one.id for one in todo], "scores": found}
            self._append({**record, "seconds": {"verify": round(time.perf_counter() - began, 6)}})
        return {key: dict(self._judged.get(key, {})) for key in shown}

    def failures(self) -> list[str]:
        """A sentence for each verifier that gave NaN, however many processes it took."""
        found, of = [], len(self.candidates)
        for verifier in self.verifiers:
            bad = sum(math.isnan(one.scores[verifier.name]) for one in self.candidates.values())
            if bad:
                found.append(f"verifier {verifier.name} gave NaN for {bad} of {of} images; they rank last")
        return found

    def curve(self) -> list[CurvePoint]:
        """Best-so-far after each candidate of the search, in order; the value never falls.

        With several verifiers the value is the ensemble's within the whole pool, so that it has one scale.
        """
        scored = [(self.candidates[key], images, nfe, seconds) for key, images, nfe, seconds in self._curve_at]
        scored = [row for row in scored if row[0].particle.steps == self.steps]
        points: list[CurvePoint] = []
        best, holder = -math.inf, ""
        for (one, images, nfe, seconds), value in zip(scored, self.value([row[0] for row in scored]), strict=True):
            if value > best or not holder:
                best, holder = value, one.id
            if best == -math.inf:
                continue  # nothing has a number yet
            points.append(CurvePoint(images, nfe, seconds, best, holder))
        return points

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, in all the processes that worked on it."""
        return self._before + time.perf_counter() - self._began

    # The end

    def render(self) -> None:
        """Make what the result shows: the baseline, and with a short search schedule the winner in full.

        The reserve that every verb kept back pays for it.
        """
        wanted = [self._baseline_particle()]
        if self.final is not self.sampler and self.candidates:
            drafts = [one for one in self.candidates.values() if one.particle.steps == self.steps]
            if drafts:
                wanted.append(_retarget(self.top(drafts)[0].particle, self.final.schedule.steps))
        self._finish(wanted, self.final, reserved=True)

    def recipe(self, particle: Particle, batch: Sequence[str], versions: dict[str, str]) -> dict[str, Any]:
        """What makes a candidate again: the sampler, the lineage, and the micro-batch it was made in."""
        sampler = self.final if particle.steps == self.final.schedule.steps else self.sampler
        return {
            "recipe_version": RECIPE_VERSION,
            "id": particle.id,
            "seed": particle.seed,
            "sampler": sampler.description,
            "lineage": particle.lineage(),
            "micro_batch": {"size": len(batch), "place": list(batch).index(particle.id)},
            "search": self.search,
            "run": self.store.root.name,
            "versions": versions,
        }

    # Behind the verbs

    def _baseline_particle(self) -> Particle:
        steps = self.final.schedule.steps
        return self._denoised_from(noise_particle(self.seed, steps), steps)

    @staticmethod
    def _denoised_from(particle: Particle, to: int) -> Particle:
        if particle.index == to:
            return particle
        if particle.index > to:
            raise ValueError(f"expected an index after {particle.index}, got {to}; renoise() goes back")
        return Particle("denoise", (particle,), {"to": to}, to, particle.steps)

    def _next_draws(self, verb: str, particle: Particle, count: int) -> range:
        key = f"{verb}:{particle.id}"
        first = self._draws.get(key, 0)
        self._draws[key] = first + count
        return range(first, first + count)

    def _finish(self, particles: Sequence[Particle], sampler: Sampler, reserved: bool = False) -> list[Candidate]:
        steps = sampler.schedule.steps
        clean = [self._denoised_from(p, steps) for p in particles]
        unscored = [p for p in _distinct(clean) if p.id in self._images and p.id not in self.candidates]
        if unscored:  # made by a process that stopped before it could score them
            self._score_some(unscored, torch.stack([self._image_of(p.id) for p in unscored]))
        self._check_target(clean, reserved)  # a process that stopped between reaching it and saying so
        todo = [p for p in _distinct(clean) if p.id not in self.candidates]
        for start, group in _by_index(todo):
            nfe_each = (steps - start) * sampler.nfe_per_step
            self._work(
                group, lambda some: self._generate_some(some, sampler), nfe_each=nfe_each, images_each=1,
                reserved=reserved,
            )  # fmt: skip
        return [self.candidates[p.id] for p in clean]

    def _work(
        self, group: Sequence[Particle], work: Callable[[Sequence[Particle]], None], *, nfe_each: int,
        images_each: int, reserved: bool = False,
    ) -> None:  # fmt: skip
        """Run ``work`` on micro-batches of ``group`` as far as the budget allows."""
        done = 0

        def allowed(count: int) -> int:
            self.spent.seconds = self.elapsed
            if self.budget.seconds is not None and not self._seconds_per_nfe and not reserved:
                count = 1  # nothing is known yet of how long one takes
            if reserved:
                return count
            makes_baseline = self._baseline_particle() in group[done : done + count]
            reserve = self._reserve(makes_baseline)
            return affordable(
                self.budget, self.spent, count, nfe_each=nfe_each, images_each=images_each,
                seconds_each=self._seconds_per_nfe * nfe_each, reserve=reserve,
            )  # fmt: skip

        def timed(some: Sequence[Particle]) -> None:
            began = time.perf_counter()
            work(some)
            self._seconds_per_nfe = (time.perf_counter() - began) / max(1, nfe_each * len(some))

        for some, _ in self.executor.run(group, timed, allowed):
            done += len(some)
            if self.on_progress is not None:
                self.on_progress(self)
            self._check_target(some, reserved)
        if done < len(group):
            raise BudgetExhausted(str(self.budget))

    def _check_target(self, some: Sequence[Particle], reserved: bool) -> None:
        """Raise TargetReached where one of ``some`` is scored and reaches the target."""
        for particle in some:
            one = self.candidates.get(particle.id)
            if one is not None and not reserved and self.target.reached(one.scores):
                raise TargetReached(one.id)

    def _reserve(self, makes_baseline: bool) -> Spent:
        """What must be left for :meth:`render` and for saving."""
        each = self.final.schedule.steps * self.final.nfe_per_step
        images = 0 if self.baseline is not None or makes_baseline else 1
        if self.final is not self.sampler:
            images += 1
        return Spent(images, images * each, 0, images * each * self._seconds_per_nfe + SAVING_SECONDS)

    def _generate_some(self, some: Sequence[Particle], sampler: Sampler) -> None:
        stop = sampler.schedule.steps
        x, solver_state, start = self._starting_states(some, sampler)
        if start < stop:
            x, _ = self._denoise_states(some, sampler, x, solver_state, start, stop)
        images = sampler.decode(x)
        if not bool(torch.isfinite(images).all()):
            self._warn("the model gave images with NaN; they are saved as black")
            images = torch.nan_to_num(images)
        ids = [p.id for p in some]
        files, hashes = [], []
        for particle, array in zip(some, pixels_of(images), strict=True):
            recipe = self.recipe(particle, ids, self.store.run["versions"])
            hashes.append(pixel_hash(array))
            files.append(self.store.save_image(particle.id, encode_png(array, {**recipe, "pixels": hashes[-1]})))
        self._append(
            {
                "verb": "finish",
                "ids": ids,
                "seeds": [p.seed for p in some],
                "lineages": [p.lineage() for p in some],
                "files": files,
                "pixels": hashes,
                "steps": stop,
                **self._metered(sampler),
            }
        )
        self._score_some(some, images)

    def _score_some(self, some: Sequence[Particle], images: Tensor) -> None:
        began = time.perf_counter()
        found: dict[str, list[float]] = {}
        for verifier in self.verifiers:
            found[verifier.name] = score(verifier, images, self.prompt)
        took = round(time.perf_counter() - began, 6)
        self._append({"verb": "score", "ids": [p.id for p in some], "scores": found, "seconds": {"verify": took}})
        if all(math.isnan(value) for scores in found.values() for value in scores) and not any(
            not math.isnan(value) for one in self.candidates.values() for value in one.scores.values()
        ):
            raise VerifierFailed(f"every score so far is NaN ({', '.join(found)}): expected at least one number")

    def _denoise_some(self, some: Sequence[Particle]) -> None:
        parents = [p.parent for p in some]
        x, solver_state, start = self._starting_states(parents, self.sampler)
        stop = some[0].index
        x, solver_state = self._denoise_states(parents, self.sampler, x, solver_state, start, stop)
        for row, particle in enumerate(some):
            state = (x[row : row + 1].clone(), _row_of(solver_state, row, len(some)))
            self.store.save_state(particle.id, state)
            self._remember(particle.id, state)
        self._append(
            {
                "verb": "denoise",
                "ids": [p.id for p in some],
                "lineages": [p.lineage() for p in some],
                "to": stop,
                **self._metered(self.sampler),
            }
        )

    def _preview_some(self, some: Sequence[Particle]) -> None:
        x, _, start = self._starting_states(some, self.sampler)
        images = self.sampler.decode(self.sampler.predict(x, start))
        began = time.perf_counter()
        found = {verifier.name: score(verifier, images, self.prompt) for verifier in self.verifiers}
        metered = self._metered(self.sampler)
        metered["seconds"]["verify"] = round(time.perf_counter() - began, 6)
        self._append({"verb": "preview", "ids": [p.id for p in some], "index": start, "scores": found, **metered})

    def _denoise_states(
        self, particles: Sequence[Particle], sampler: Sampler, x: Tensor, state: Any, start: int, stop: int
    ) -> tuple[Tensor, Any]:
        def step_noise(index: int) -> Tensor:
            return torch.stack([gaussian(x.shape[1:], p.id, index) for p in particles])

        # A finished particle stands for its parent here: step noise belongs to where a segment starts.
        particles = [p.parent if p.verb == "denoise" and p.index == stop else p for p in particles]
        seeds = [p.seed if p.verb == "noise" else None for p in particles]
        return sampler.denoise(x, start, stop, state, step_noise if sampler.stochastic else None, seeds)

    def _starting_states(self, particles: Sequence[Particle], sampler: Sampler) -> tuple[Tensor, Any, int]:
        """The states that finished or previewed particles start from: (batch, ...), solver state, index."""
        stop = sampler.schedule.steps
        sources = [p.parent if p.verb == "denoise" and p.index == stop and p.parents else p for p in particles]
        seeds = [p.seed for p in sources]
        if all(p.verb == "noise" for p in sources):
            return sampler.noise([seed for seed in seeds if seed is not None]), None, 0
        rows = [self._state(p, sampler) for p in sources]
        return torch.cat([x for x, _ in rows]), _join([state for _, state in rows]), sources[0].index

    def _state(self, particle: Particle, sampler: Sampler) -> tuple[Tensor, Any]:
        """One particle's state (1, ...) and solver state: from memory, from disk, or made again from its parents."""
        if particle.id in self._cache:
            self._cache.move_to_end(particle.id)
            return self._cache[particle.id]
        found: tuple[Tensor, Any]
        if particle.verb == "noise":
            found = sampler.noise([int(particle.args["seed"])]), None
        elif particle.verb == "vary":
            x, _ = self._state(particle.parent, sampler)
            direction = gaussian(x.shape, particle.id)
            found = rotate(x, direction, particle.args["cosine"]), None
        elif particle.verb == "renoise":
            x, _ = self._state(particle.parent, sampler)
            drawn = gaussian(x.shape, particle.id)
            found = renoise(x, sampler.schedule, particle.parent.index, particle.index, drawn), None
        else:
            stored = self.store.state(particle.id)
            if stored is None:  # lost, or never kept: the lineage makes it again
                x, state = self._state(particle.parent, sampler)
                start = particle.parent.index
                stored = self._denoise_states([particle.parent], sampler, x, state, start, particle.index)
            found = stored
        self._remember(particle.id, found)
        return found

    def _remember(self, key: str, state: tuple[Tensor, Any]) -> None:
        self._cache[key] = state
        size = state[0].numel() * state[0].element_size()
        while len(self._cache) > max(1, CACHED_STATES_BYTES // max(1, size)):
            self._cache.popitem(last=False)

    def _image_of(self, key: str) -> Tensor:
        made = self._images[key]
        image = self.store.image(made["file"], made["pixels"])
        if image is None:
            raise ValueError(f"expected the image {self.store.root / made['file']} as it was made, got another or none")
        return image

    # The journal

    def _metered(self, sampler: Sampler) -> dict[str, Any]:
        """What was counted since the last line."""
        taken = sampler.meter.since(self._meter)
        self._meter = sampler.meter.snapshot()
        return taken

    def _append(self, record: dict[str, Any]) -> None:
        record = without_nan({**record, "elapsed": round(self.elapsed, 4)})
        self.store.append(record)
        self._apply(record)

    def _replay(self) -> None:
        for record in self.store.records:
            self._apply(record)
        lost = [key for key, made in self._images.items() if not (self.store.root / made["file"]).exists()]
        for key in lost:  # its line is in the journal but the file did not survive: make it again
            del self._images[key]
            if self.candidates.pop(key, None) is not None:
                self._curve_at = [row for row in self._curve_at if row[0] != key]

    def _apply(self, record: dict[str, Any]) -> None:
        """Take a line of the journal into account; live and replayed lines go through here alike."""
        verb = record["verb"]
        for key, value in record.get("seconds", {}).items():
            self.seconds[key] += value
        self.spent.nfe += record.get("nfe", 0)
        self.spent.forwards += record.get("forwards", 0)
        self.spent.seconds = record.get("elapsed", self.spent.seconds)
        if verb == "finish":
            self.spent.images += len(record["ids"])
            for key, lineage, file, pixels in zip(
                record["ids"], record["lineages"], record["files"], record["pixels"], strict=True
            ):
                self._images[key] = {"file": file, "pixels": pixels, "lineage": lineage}
        elif verb == "score":
            for row, key in enumerate(record["ids"]):
                made = self._images[key]
                scores = {name: number_or_nan(values[row]) for name, values in record["scores"].items()}
                particle = from_lineage(made["lineage"])  # type: ignore[arg-type]
                self.candidates[key] = Candidate(particle, self._scored, scores, made["file"], made["pixels"])
                self._scored += 1
                self._curve_at.append((key, self._scored, self.spent.nfe, self.spent.seconds))
        elif verb == "denoise":
            self._denoised.update(record["ids"])
        elif verb == "preview":
            for row, key in enumerate(record["ids"]):
                self._previews[key] = {name: number_or_nan(values[row]) for name, values in record["scores"].items()}
        elif verb == "judge":
            for key, value in zip(record["ids"], record["scores"], strict=True):
                self._judged.setdefault(key, {})[record["judge"]] = number_or_nan(value)
        elif verb == "shrink":
            self.executor.batch_size = record["batch_size"]

    def _on_shrink(self, size: int) -> None:
        self._warn(f"out of memory: micro-batches of {size} from here on")
        self._append({"verb": "shrink", "batch_size": size})

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def _distinct(particles: Sequence[Particle]) -> list[Particle]:
    return list({p.id: p for p in particles}.values())


def _by_index(particles: Sequence[Particle], parent: bool = True) -> list[tuple[int, list[Particle]]]:
    """Particles in groups of equal starting index, in order of first appearance."""
    groups: dict[int, list[Particle]] = {}
    for particle in particles:
        start = particle.parent.index if parent and particle.verb == "denoise" else particle.index
        groups.setdefault(start, []).append(particle)
    return list(groups.items())


def _retarget(particle: Particle, steps: int) -> Particle:
    """The same starting noise on a schedule of another number of steps.

    Raises:
        ValueError: where the particle was touched after its start, which has no counterpart on another schedule.
    """
    if particle.verb == "noise":
        return noise_particle(int(particle.args["seed"]), steps)
    if particle.verb == "vary":
        return Particle("vary", (_retarget(particle.parent, steps),), particle.args, 0, steps)
    if particle.verb == "denoise" and particle.index == particle.steps:
        return _retarget(particle.parent, steps)
    raise ValueError(f"a search that uses {particle.verb} cannot search with fewer steps than it renders with")


def _row_of(state: Any, row: int, count: int) -> Any:
    """One particle's part of a batched solver state."""
    if isinstance(state, Tensor) and state.ndim > 0 and state.shape[0] == count:
        return state[row : row + 1].clone()
    if isinstance(state, dict):
        return {key: _row_of(value, row, count) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [_row_of(value, row, count) for value in state]
    return state


def _join(states: Sequence[Any]) -> Any:
    """The batched solver state of several particles that stand at the same index."""
    first = states[0]
    if isinstance(first, Tensor) and first.ndim > 0:
        return torch.cat(list(states))
    if isinstance(first, dict):
        return {key: _join([state[key] for state in states]) for key in first}
    if isinstance(first, (list, tuple)):
        return [_join([state[n] for state in states]) for n in range(len(first))]
    return first
