"""The worker: the model and the verifiers, doing jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion import reno
from noisewright.errors import out_of_memory
from noisewright.executors import scoring
from noisewright.executors.making import Making
from noisewright.executors.pictures import encoded
from noisewright.executors.protocol import Interrupted, Job, Leg, MakeJob, Outcome, ScoreJob, added, nothing_metered
from noisewright.executors.steps import carry, origins_of, predicted
from noisewright.images.frames import cut
from noisewright.images.video import encode_mp4
from noisewright.run.particle import Particle
from noisewright.run.rows import State
from noisewright.samplers.optional import ShowsFrames, flags_of, frames_shown, resident
from noisewright.samplers.places import CPU, home, there
from noisewright.samplers.protocol import Interruptible, Meter, Sampler
from noisewright.verifiers.protocol import Verifier, gradient_of


def scored(verifiers: Mapping[str, Verifier], judges: Mapping[str, Verifier], job: ScoreJob) -> Outcome:
    """What verifiers, or a judge, say of a job's images."""
    return scoring.judge(judges, job) if job.kind == "judge" else scoring.ask_all(verifiers, job)


class ScoringWorker:
    """A :class:`~noisewright.executors.protocol.Worker` without a model, which only scores.

    Args:
        verifiers: what the search sees.
        judges: what it never sees.
    """

    def __init__(self, verifiers: Iterable[Verifier], judges: Iterable[Verifier] = ()) -> None:
        self.verifiers = {one.name: one for one in verifiers}
        self.judges = {one.name: one for one in judges}

    def do(self, job: Job) -> Outcome:
        """Do a scoring job; see :meth:`noisewright.executors.protocol.Worker.do`."""
        if not isinstance(job, ScoreJob):
            raise TypeError(f"expected a job of scoring for a worker without a model, got one to {job.kind}")
        return scored(self.verifiers, self.judges, job)


class ModelWorker:
    """A :class:`~noisewright.executors.protocol.Worker` with a model and verifiers of its own.

    Args:
        search: the sampler that the search samples with.
        final: the one that renders the result; the same where the search has no steps of its own.
        verifiers: what the search sees.
        judges: what it never sees.
    """

    def __init__(
        self, search: Sampler, final: Sampler, verifiers: Sequence[Verifier], judges: Sequence[Verifier] = ()
    ) -> None:
        self.samplers = {"search": search, "final": final}
        self.verifiers = {one.name: one for one in verifiers}
        self.judges = {one.name: one for one in judges}
        self.prompt = str(search.description["prompt"])
        self.tell_where = {key: isinstance(one, Interruptible) for key, one in self.samplers.items()}
        self.on_cpu = str(search.description.get("device", "cpu")) == "cpu"
        # A fresh sampler has encoded the prompt already, for this run; a used one counted for others.
        self._seen = [(Meter() if one.nfe == 0 else one).snapshot() for one in self._meters()]

    def do(self, job: Job) -> Outcome:
        """Do a job; see :meth:`noisewright.executors.protocol.Worker.do`."""
        if isinstance(job, ScoreJob):
            return scored(self.verifiers, self.judges, job)
        began = time.perf_counter()
        try:
            made = self._make(job)
        except Exception as error:
            if not out_of_memory(error) or len(job) == 1:
                raise
            made = None
        if made is None:  # outside the handler, whose traceback still holds the tensors
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            made = {"shrank_to": max(1, len(job) // 2)}
        return Outcome(metered=self._metered(), took=time.perf_counter() - began, **made)

    def _make(self, job: MakeJob) -> dict[str, Any]:
        """What a micro-batch gives, by the names of :class:`~noisewright.executors.protocol.Outcome`."""
        return _MicroBatch(self, job).work()

    def _meters(self) -> list[Meter]:
        """The samplers' meters, each once: they mostly share one."""
        return list({id(one.meter): one.meter for one in self.samplers.values()}.values())

    def _metered(self) -> dict[str, Any]:
        """What was counted since it was asked last."""
        taken = nothing_metered()
        for place, meter in enumerate(self._meters()):
            taken = added(taken, meter.since(self._seen[place]))
            self._seen[place] = meter.snapshot()
        return taken

    def interrupted(self, index: int, states: State) -> Interrupted:
        """Ctrl-C, with what it interrupted."""
        return Interrupted(Outcome(metered=self._metered(), states=states, index=index))


class _MicroBatch:
    """One :class:`MakeJob` at work.

    What comes in and goes out is on the CPU. Between the segments of the micro-batch (to a preview, the step from
    there, the decoding) states stay where the model computes, with a sampler that can leave them there.
    """

    def __init__(self, worker: ModelWorker, job: MakeJob) -> None:
        self._worker = worker
        self._job = job
        self._sampler = worker.samplers[job.model]
        self._estimates: dict[str, Tensor] = {}
        self._films: list[bytes] = []
        wanted = [*job.leg.sources, *(job.look.sources if job.look is not None else ())]
        self._states = Making(job.steps, job.known, wanted, self._sampler)
        self._place = CPU

    def work(self) -> dict[str, Any]:
        with resident(self._sampler) as self._place:
            found = home(getattr(self, f"_{self._job.kind}")())
        estimates = home(self._estimates)
        return {"made": self._states.made, "estimates": estimates, "steady_step": self._steady(), **found}

    def _begun(self, particles: Sequence[Particle]) -> State:
        """The states (batch, ...) of particles at one index and their solver's, where the model computes."""
        x, state = self._states.batch(particles)
        return there(x, self._place), there(state, self._place)

    def _steady(self) -> float | None:
        """Seconds of a step; elsewhere than on a CPU steps end later than the calls that begin them."""
        return self._sampler.meter.steady_step() if self._worker.on_cpu else None

    def _recall(self) -> dict[str, Any]:
        return {"states": self._states.batch(self._job.leg.sources)}

    def _denoise(self) -> dict[str, Any]:
        return {"states": self._reached(self._job.leg)}

    def _estimate(self) -> dict[str, Any]:
        sources = self._job.leg.sources
        clean = self._known_estimates(sources)
        if clean is None:
            clean = predicted(sources, self._sampler, self._begun(sources)[0], self._job.leg.index)
        images, flags = self._decoded(clean, sources)
        return {"clean": clean, "images": torch.nan_to_num(images), "broken": _broken(images, flags)}

    def _ascend(self) -> dict[str, Any]:
        sampler, sources, args = self._sampler, self._job.leg.sources, self._job.leg.particles[0].args
        x, _ = self._states.batch(sources)
        start = sampler.schedule.start  # ascent is in the noise's own units, whatever the sampler's
        x = (x / start).clone().requires_grad_()
        images = sampler.trace(x * start)  # type: ignore[attr-defined]
        verifiers, frames = self._worker.verifiers.values(), frames_shown(sampler)
        seen = images if frames == 1 else cut(images, frames)
        found: Any = sum(gradient_of(one, seen, self._worker.prompt) for one in verifiers)  # type: ignore[arg-type]
        scores = found.reshape(len(images), frames).mean(1)
        moved, velocity = reno.ascended(x, scores, self._states.velocities(sources, x.detach()), **args)
        objective = torch.as_tensor(scores).detach().flatten().tolist()
        return {"states": (start * moved, velocity), "objective": tuple(objective)}

    def _generate(self) -> dict[str, Any]:
        x, previews = self._to_the_end()
        self._films = []
        images, flags = self._decoded(x, self._job.leg.sources)
        broken = _broken(images, flags)
        images = torch.nan_to_num(images)
        pngs, pixels = encoded(images, self._job.recipes) if self._job.recipes else ([], [])
        return {
            "images": images, "previews": previews, "broken": broken, "flagged": tuple(flags),
            "pngs": tuple(pngs), "pixels": tuple(pixels), "films": tuple(self._films),
        }  # fmt: skip

    def _to_the_end(self) -> tuple[Tensor, Tensor | None]:
        """Clean states, and the decoded estimates on the way that a verifier wants to see, where the way has them."""
        leg, look, sampler = self._job.leg, self._job.look, self._sampler
        if look is None:
            return self._reached(leg)[0], None
        x, state = self._reached(look)
        clean = None if look.index < leg.sources[0].index else self._known_estimates(look.particles)
        if clean is None:
            clean = predicted(look.particles, sampler, x, look.index)
        previews = sampler.decode(clean, **origins_of(look.particles, sampler))
        if look.index < leg.sources[0].index:  # it was passed already, and looked back to
            return self._reached(leg)[0], previews
        known = clean if sampler.can_advance else None
        return self._carried(look.particles, x, state, leg.index, known)[0], previews

    def _reached(self, leg: Leg) -> State:
        """Denoise along a leg: (batch, ...), solver state."""
        x, state = self._begun(leg.sources)
        if leg.sources[0].index == leg.index:
            return x, state
        clean = self._known_estimates(leg.sources) if self._sampler.can_advance else None
        return self._carried(leg.sources, x, state, leg.index, clean)

    def _carried(
        self, particles: Sequence[Particle], x: Tensor, state: Any, stop: int, clean: Tensor | None
    ) -> State:  # fmt: skip
        sampler: Any = self._sampler
        tells = self._worker.tell_where[self._job.model]
        if tells:
            sampler.reached = None
        try:
            return carry(particles, sampler, x, state, stop, clean)
        except KeyboardInterrupt:
            reached = sampler.reached if tells else None
            if reached is None:
                raise
            index, x, state = reached
            raise self._worker.interrupted(index, (x, state)) from None

    def _known_estimates(self, particles: Sequence[Particle]) -> Tensor | None:
        """Clean estimates (batch, ...) of particles at which the network was asked already; None where it was not."""
        known = self._job.estimates
        if any(one.id not in known for one in particles):
            return None
        rows = []
        for one in particles:
            found = known[one.id]
            if found is None:  # the file was lost: ask again
                found = predicted([one], self._sampler, self._begun([one])[0], one.index)
                self._estimates[one.id] = found
            rows.append(there(found, self._place))
        return torch.cat(rows)

    def _decoded(self, x: Tensor, particles: Sequence[Particle]) -> tuple[Tensor, list[bool]]:
        """Images of clean states of particles, and which of them a safety checker blacked out.

        Where memory runs out they are decoded in halves, since the steps before are paid already.
        """
        try:
            images = self._sampler.decode(x, **origins_of(particles, self._sampler))
            self._films += _films_of(self._sampler)
            return images, flags_of(self._sampler, len(x))
        except Exception as error:
            if not out_of_memory(error) or len(x) == 1:
                raise
        half = (len(x) + 1) // 2
        parts = [self._decoded(x[:half], particles[:half]), self._decoded(x[half:], particles[half:])]
        return torch.cat([images for images, _ in parts]), [flag for _, flags in parts for flag in flags]


def _films_of(sampler: Sampler) -> list[bytes]:
    """The .mp4 of each video that was decoded last; none of images, and none where nothing can write them."""
    film = sampler.take_film() if isinstance(sampler, ShowsFrames) else None
    if film is None or not isinstance(sampler, ShowsFrames):
        return []
    return [encode_mp4(one.permute(0, 2, 3, 1).numpy(), sampler.frame_rate) for one in film]


def _broken(images: Tensor, flags: Sequence[bool]) -> tuple[str | None, ...]:
    """Why each image is none: NaN or infinity in it, or a safety checker's black."""
    finite = images.flatten(1).isfinite().all(1).tolist()
    return tuple("nan" if not good else "nsfw" if flag else None for good, flag in zip(finite, flags, strict=True))
