"""Any diffusers pipeline as a sampler, entered through its scheduler.

For one public ``pipe(...)`` call, ``pipe.scheduler`` is swapped for a probe: a dynamic subclass of its own class whose
``step`` receives the *guided* prediction. Four kinds of call cover every verb, with no copied pipeline:

- zero steps without latents: the pipeline's own noise (shape, packing, dtype), and its real schedule;
- steps i..j with latents: a partial denoising;
- one step that keeps the clean estimate: a preview;
- zero steps with latents: a decode.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisewright.clock import Level
from noisewright.errors import NotDifferentiable, UnsupportedPipeline
from noisewright.sampler import Meter, StepNoise, quantise
from noisewright.samplers.classes import is_class_conditional, read_class
from noisewright.samplers.fingerprint import fingerprint
from noisewright.samplers.levels import Levels, read_levels
from noisewright.samplers.seam import Seam, checkpointed, entered, make_probe, without_guidance
from noisewright.schedule import KINDS, Estimate, Schedule, check_falling, estimate
from noisewright.schedules import named_schedule
from noisewright.schemas.reading import cut, short
from noisewright.solvers import AnySolver, Stages, advance, asked, asks_once, memory, nfe, splits, stages

NEEDED = ("latents", "generator", "num_inference_steps", "output_type")

OWN_PIPELINES = {"ClassConditionalFlowPipeline": "noisewright.pipelines.class_flow"}
"""Classes that a ``model_index.json`` may name and that diffusers does not have, with their modules."""


class PipelineSampler:
    """A :class:`noisewright.sampler.Sampler` over a diffusers pipeline object, which is left as it was found.

    Args:
        pipe: any text-to-image or class-conditional pipeline whose loop calls ``scheduler.step`` once per network
            evaluation.
        prompt: one prompt; for a class-conditional pipeline a class, or beside ``class_label`` what verifiers are told,
            by default the class's name.
        class_label: the number or the name of the class, for a class-conditional pipeline.
        num_inference_steps: steps of the pipeline's own schedule.
        guidance_scale, negative_prompt, height, width: as in diffusers; None leaves the pipeline's default.
        solver: one of ours, or None for the pipeline's own: mapped to the solver of ours that takes the same steps
            where there is one, and otherwise run by a private copy of the pipeline's scheduler.
        schedule: levels to use instead of the pipeline's, or the name of a rule that makes them
            (:mod:`noisewright.schedules`); needs a solver of ours.
        model: how the model is called in records.
        pipe_kwargs: further arguments of the pipeline's call.

    Raises:
        UnsupportedPipeline: where the seam cannot enter.
        ValueError: what the pipeline itself says of wrong arguments.
    """

    def __init__(
        self,
        pipe: Any,
        prompt: str | None = None,
        *,
        num_inference_steps: int,
        class_label: str | int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        solver: AnySolver | None = None,
        schedule: Schedule | str | None = None,
        model: str | None = None,
        pipe_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self._found = pipe
        self.pipe = _adapted(pipe)
        self.prompt, self.class_label = _condition(pipe, prompt, class_label)
        self.meter = Meter()
        self._encoded: dict[str, Any] = {}
        self._settings = {
            "guidance_scale": guidance_scale,
            "negative_prompt": negative_prompt,
            "height": height,
            "width": width,
            **(pipe_kwargs or {}),
        }
        self._given_solver = solver
        self._given_schedule = None if schedule == "pipeline" else schedule
        self._model = model or _name(pipe)
        self._fingerprint: str | None = None
        _check(self.pipe, type(pipe).__name__, self._settings)
        self._prepare(num_inference_steps)

    def _prepare(self, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"expected at least 1 step, got {steps}")
        self._asked_steps = steps
        levels = self._read(steps)
        solver = self._given_solver or levels.equal
        if self._given_schedule is not None and solver is None:
            raise ValueError(
                f"a custom schedule needs a solver of noisewright's (ddim), got the pipeline's own "
                f"{type(self.pipe.scheduler).__name__}"
            )
        self.solver = solver
        self.schedule = self._levels(levels, steps)
        self._kind = levels.kind
        self.stochastic = solver.stochastic if solver is not None else _draws_noise(self._prepared)

    def _levels(self, levels: Levels, steps: int) -> Schedule:
        """The levels to visit: those that were given, by a rule or one by one, or the pipeline's own."""
        given, own = self._given_schedule, levels.schedule
        if isinstance(given, str):
            if own.clock is None:
                raise ValueError(
                    f"expected a scheduler that tells the time of a noise level for schedule {given!r}, got "
                    f"{type(self.pipe.scheduler).__name__}"
                )
            return named_schedule(given, own.clock, steps)
        if given is not None:
            check_falling(given)
            inside = any(min(pair) > 0 for pair in zip(given.alpha, given.sigma, strict=True))
            if inside and given.straight != own.straight:
                kinds = ["a VP model", "a flow model"]
                raise ValueError(f"expected the levels of {kinds[own.straight]}, got those of {kinds[given.straight]}")
            return replace(given, clock=given.clock or own.clock)
        return own if self.solver is not None else levels.native

    @property
    def given_solver(self) -> AnySolver | None:
        """The solver that was asked for; None where the pipeline's own was to be used."""
        return self._given_solver

    @property
    def remembers(self) -> bool:
        return self.solver is None or memory(self.solver) > 0

    def nfe(self, start: int, stop: int) -> int:
        return stop - start if self.solver is None else nfe(self.solver, self.schedule, start, stop)

    def with_steps(self, steps: int) -> PipelineSampler:
        if isinstance(self._given_schedule, Schedule) and steps != self._given_schedule.steps:
            raise ValueError(f"expected the {self._given_schedule.steps} steps of the schedule given, got {steps}")
        other = copy.copy(self)  # shares the pipeline, the encoded prompt and the meter
        other._prepare(steps)
        return other

    def with_levels(self, schedule: Schedule | str, solver: AnySolver | None = None) -> PipelineSampler:
        """The same model, prompt and settings on other levels, and with another solver if one is given."""
        other = copy.copy(self)
        other._given_schedule = None if schedule == "pipeline" else schedule
        other._given_solver = solver or self._given_solver
        other._prepare(schedule.steps if isinstance(schedule, Schedule) else self._asked_steps)
        return other

    @property
    def description(self) -> dict[str, Any]:
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self._found)
        label = {} if self.class_label is None else {"class_label": self.class_label}
        given = self._given_schedule
        levels = {} if given is None else {"levels": given if isinstance(given, str) else given.to_json()}
        return {
            "model": self._model,
            "pipeline": type(self._found).__name__,
            "fingerprint": self._fingerprint,
            "prompt": self.prompt,
            **label,
            **{key: value if _is_json(value) else repr(value) for key, value in self._settings.items()},
            "num_inference_steps": self._asked_steps,
            "solver": self.solver.name if self.solver is not None else type(self.pipe.scheduler).__name__,
            "eta": getattr(self.solver, "eta", None),
            "schedule": self.schedule.digest,
            **levels,
            "dtype": str(self.pipe.dtype).removeprefix("torch."),
            "device": str(self.device),
        }

    @property
    def device(self) -> torch.device:
        return torch.device(getattr(self.pipe, "_execution_device", None) or self.pipe.device)

    # The verbs

    def noise(self, seeds: Sequence[int]) -> Tensor:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        x = self._noise_from(generators)
        return x * self.schedule.start if self.solver is not None else x

    def denoise(
        self, x: Tensor, start: int, stop: int, state: Any = None, noise: StepNoise | None = None,
        seeds: Sequence[int | None] | None = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        if not 0 <= start < stop <= self.schedule.steps:
            raise ValueError(f"expected 0 <= start < stop <= {self.schedule.steps}, got {start} to {stop}")
        with self.meter.phase("denoise"):
            if self.solver is None:
                return self._denoise_natively(x, start, stop, state, noise, seeds)
            return self._denoise(x, start, stop, state, noise)

    @property
    def can_preview(self) -> bool:
        """Whether a clean estimate can be read from the network's prediction."""
        return self._kind in KINDS

    @property
    def can_advance(self) -> bool:
        return self.solver is not None and asks_once(self.solver)

    def advance(
        self, x: Tensor, index: int, clean: Tensor, state: Any = None, noise: StepNoise | None = None
    ) -> tuple[Tensor, Any]:
        if self.solver is None:
            raise UnsupportedPipeline(
                f"{type(self.pipe.scheduler).__name__} cannot step from a known estimate: choose --solver ddim"
            )
        return advance(self.solver, self.schedule, x, index, clean, state, noise)

    def predict(self, x: Tensor, index: int) -> Tensor:
        schedule = self.schedule
        found: list[Tensor] = []
        with self.meter.phase("denoise"):
            seam = self._seam(index, index + 1, None)
            scheduler = self._resumed(None, index) if self.solver is None else None
            if scheduler is not None:
                seam.own_input = scheduler.scale_model_input

            def on_step(prediction: Tensor, timestep: Any, sample: Tensor) -> Tensor:
                self._count(prediction, x)
                state = x.to(prediction.device)
                one = estimate(prediction.float(), state, schedule.alpha[index], schedule.sigma[index], self._kind)
                found.append(one.clean)
                return sample

            seam.on_step = on_step
            self._call(seam, x)
        return self._taken(found)

    def decode(self, x: Tensor) -> Tensor:
        with self.meter.phase("decode"):
            images = self._call(Seam(self.pipe.scheduler, torch.empty(0), None), x, output_type="pt")
            self.meter.decodes += len(x)
            return quantise(images.detach().cpu())

    @property
    def differentiable(self) -> bool:
        return self.solver is not None and not self.solver.stochastic

    def trace(self, x: Tensor) -> Tensor:
        if not self.differentiable:
            raise NotDifferentiable("expected a deterministic solver of noisewright's for a gradient: --solver ddim")
        with self.meter.phase("denoise"), torch.enable_grad(), checkpointed(self.pipe):
            clean, _ = self._denoise(x, 0, self.schedule.steps, None, None, traced=True)
            images = self._call(Seam(self.pipe.scheduler, torch.empty(0), None), clean, output_type="pt", traced=True)
        return images.float().cpu()

    # How they enter

    def _denoise(
        self, x: Tensor, start: int, stop: int, state: Any, noise: StepNoise | None, traced: bool = False
    ) -> tuple[Tensor, Any]:
        assert self.solver is not None  # noqa: S101 - narrows the type for the closure
        solver, schedule, kind = self.solver, self.schedule, self._kind
        if solver.stochastic and noise is None:
            raise ValueError(f"expected step noise for {solver.name} with eta > 0, got None")
        index = start
        now = x.to(self.device, torch.float32)  # the master copy: no rounding to the model's dtype between steps
        state = placed(state, self.device)
        levels = [level for n in range(start, stop) for level in asked(solver, schedule, n)]
        waiting = iter(levels)

        def begin() -> Stages:
            drawn = noise(index).to(now.device) if solver.stochastic and noise is not None else None
            return stages(solver, schedule, index, now, drawn, state)

        step = begin()
        seen = next(step)  # what the network is asked about: the states, or samples on the way of a step

        def on_step(prediction: Tensor, timestep: Any, sample: Tensor) -> Tensor:
            nonlocal index, now, state, step, seen
            self._count(prediction, x)
            found = self._understood(prediction, seen, next(waiting), kind, seam)
            try:
                seen = step.send(found)
            except StopIteration as done:
                now, state = done.value
                index += 1
                step = begin() if index < stop else step
                seen = next(step) if index < stop else now
            return seen.to(sample.dtype)

        seam = self._seam_at([level.t for level in levels], on_step)
        seam.branches = [] if splits(solver) else None
        self._call(seam, x, traced=traced)
        if index != stop:
            raise UnsupportedPipeline(
                f"{type(self.pipe).__name__} took {index - start} scheduler steps where {stop - start} were asked"
            )
        return now.cpu(), placed(state, torch.device("cpu"))

    def _understood(self, prediction: Tensor, x: Tensor, level: Level, kind: str, seam: Seam) -> Estimate:
        """What the network said of ``x``; for splitting solvers also what it says without guidance."""
        found = estimate(prediction.float(), x, level.alpha, level.sigma, kind)
        if seam.branches is None:
            return found
        outputs, seam.branches[:] = list(seam.branches), []
        scale = float(getattr(self.pipe, "guidance_scale", self._settings["guidance_scale"]) or 1.0)
        plain = without_guidance(prediction, outputs, scale)
        if plain is None:
            raise UnsupportedPipeline(
                f"expected guidance of the form u + scale (c - u) with a scale above 1 for a splitting solver, got "
                f"another of {type(self.pipe).__name__} at scale {scale:g}"
            )
        return replace(found, plain=estimate(plain.float(), x, level.alpha, level.sigma, kind))

    def _denoise_natively(
        self, x: Tensor, start: int, stop: int, state: Any, noise: StepNoise | None, seeds: Sequence[int | None] | None
    ) -> tuple[Tensor, Any]:
        history = state["history"] if state is not None else None
        scheduler = self._resumed(history, start)
        step_arguments = inspect.signature(scheduler.step).parameters
        extra: dict[str, Any] = {}
        if self.stochastic:
            if "generator" not in step_arguments:
                raise UnsupportedPipeline(
                    f"{type(scheduler).__name__} draws step noise but takes no generator: choose --solver ddim"
                )
            extra["generator"] = self._step_generators(x, start, state, noise, seeds)
        now = x.to(self.device, torch.float32)
        taken = 0

        def on_step(prediction: Tensor, timestep: Any, sample: Tensor) -> Tensor:
            nonlocal now, taken
            self._count(prediction, x)
            now = scheduler.step(prediction, timestep, sample, return_dict=False, **extra)[0]
            taken += 1
            return now

        seam = self._seam(start, stop, on_step)
        seam.own_input = scheduler.scale_model_input
        self._call(seam, x)
        if taken != stop - start:
            raise UnsupportedPipeline(
                f"{type(self.pipe).__name__} took {taken} scheduler steps where {stop - start} were asked"
            )
        after: dict[str, Any] = {"history": _history(scheduler, self._prepared)}
        if self.stochastic:
            after["generators"] = torch.stack([generator.get_state() for generator in extra["generator"]])
        return now.float().cpu(), after

    def _step_generators(
        self, x: Tensor, start: int, state: Any, noise: StepNoise | None, seeds: Sequence[int | None] | None
    ) -> list[torch.Generator]:
        """A generator for each row. From index 0 of a seeded state it goes on where the starting noise ended, as in
        plain diffusers; a later segment takes it up from ``state``; a branch is seeded from its own step noise.
        """
        generators = []
        if state is not None:
            for row in state["generators"]:
                generators.append(torch.Generator("cpu"))
                generators[-1].set_state(row.clone())  # a view crashes torch
            return generators
        keyed = noise(start) if noise is not None else None
        for row in range(len(x)):
            seed = seeds[row] if seeds is not None else None
            if start == 0 and seed is not None:
                generator = torch.Generator("cpu").manual_seed(seed)
                self._noise_from([generator])
            elif keyed is not None:
                bits = hashlib.sha256(keyed[row].numpy().tobytes()).digest()[:8]
                generator = torch.Generator("cpu").manual_seed(int.from_bytes(bits, "big") >> 1)
            else:
                raise ValueError("expected step noise or seeds for a stochastic scheduler, got neither")
            generators.append(generator)
        return generators

    def _resumed(self, state: Any, start: int) -> Any:
        """A private copy of the scheduler that stands at ``start`` with the history ``state``."""
        scheduler = copy.deepcopy(self._prepared)
        if state is not None:
            scheduler.__dict__.update(copy.deepcopy(state))
        elif start > 0 and hasattr(scheduler, "_step_index"):
            scheduler._step_index = start
        return scheduler

    def _noise_from(self, generators: list[torch.Generator]) -> Tensor:
        seam = Seam(self.pipe.scheduler, torch.empty(0), None)
        if self.solver is None:
            seam.init_scale = float(self._prepared.init_noise_sigma)
        x = self._call(seam, None, generator=generators, batch=len(generators))
        return x.detach().float().cpu()

    def _read(self, steps: int) -> Levels:
        """The pipeline's real schedule, resolution-dependent shifts included, from a call of zero steps."""
        seam = Seam(self.pipe.scheduler, None, None)
        generator = [torch.Generator("cpu").manual_seed(0)]
        try:
            self._call(seam, None, generator=generator, batch=1, steps=steps)
        except (AttributeError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
            first = next(iter(str(error).splitlines()), "")
            raise ValueError(
                f"expected settings that {type(self.pipe).__name__} can be called with, got {self._said(steps)} "
                f"({type(error).__name__}: {cut(first, 120)})"
            ) from error
        if seam.prepared is None:
            raise UnsupportedPipeline(f"{type(self.pipe).__name__} never calls scheduler.set_timesteps")
        self._prepared = seam.prepared
        try:
            return read_levels(seam.prepared, seam.mu)
        except ValueError as error:
            raise UnsupportedPipeline(str(error)) from None
        except LookupError:
            name = type(self.pipe.scheduler).__name__
            raise ValueError(
                f"expected fewer steps of {name}, got {steps}, which begin beyond the times of its model"
            ) from None

    def _said(self, steps: int) -> str:
        """The settings as a message has them."""
        given = {"num_inference_steps": steps, **{key: one for key, one in self._settings.items() if one is not None}}
        return ", ".join(f"{key} = {short(value)}" for key, value in given.items())

    def _seam(self, start: int, stop: int, on_step: Callable[..., Tensor] | None) -> Seam:
        if self.solver is None:
            return Seam(self.pipe.scheduler, self._prepared.timesteps[start:stop].clone(), on_step)
        return self._seam_at(self.schedule.t[start:stop], on_step)

    def _seam_at(self, asked_at: Sequence[float], on_step: Callable[..., Tensor] | None) -> Seam:
        times = torch.tensor(asked_at, dtype=torch.float32)
        if not torch.is_floating_point(self._prepared.timesteps):
            times = times.long() if bool((times == times.round()).all()) else times
        return Seam(self.pipe.scheduler, times, on_step)

    def _call(
        self, seam: Seam, x: Tensor | None, *, output_type: str = "latent", generator: Any = None,
        batch: int | None = None, steps: int | None = None, traced: bool = False,
    ) -> Tensor:  # fmt: skip
        count = len(x) if x is not None else int(batch or 1)
        accepted = inspect.signature(type(self.pipe).__call__).parameters
        given: dict[str, Any] = {key: value for key, value in self._settings.items() if value is not None}
        given["output_type"] = output_type
        given["num_inference_steps"] = steps or max(1, 0 if seam.times is None else len(seam.times))
        if self.class_label is not None:
            given["class_labels"] = [self.class_label] * count
        elif "num_images_per_prompt" in accepted:
            given.update(prompt=self.prompt, num_images_per_prompt=count)
        else:
            given["prompt"] = [self.prompt] * count
        if x is not None:
            given["latents"] = x.to(self.device, self.pipe.dtype)
        if generator is not None:
            given["generator"] = generator
        with entered(self.pipe, make_probe(seam), self._encoded, self.meter, seam.branches):
            call = type(self.pipe).__call__
            output = getattr(call, "__wrapped__", call)(self.pipe, **given) if traced else self.pipe(**given)
        images = getattr(output, "images", None)
        if not isinstance(images, Tensor):
            raise UnsupportedPipeline(
                f"expected tensors for output_type={output_type!r}, got {type(images).__name__} from "
                f"{type(self.pipe).__name__}"
            )
        return images

    def _count(self, prediction: Tensor, x: Tensor) -> None:
        if prediction.shape[0] != x.shape[0]:
            raise UnsupportedPipeline(
                f"{type(self.pipe).__name__} gives scheduler.step {prediction.shape[0]} predictions for {x.shape[0]} "
                "images: guidance is applied elsewhere, which needs an adapter"
            )
        self.meter.nfe += int(x.shape[0])

    def _taken(self, found: list[Tensor]) -> Tensor:
        if len(found) != 1:
            raise UnsupportedPipeline(f"{type(self.pipe).__name__} took {len(found)} scheduler steps, expected 1")
        return found[0].cpu()


def placed(state: Any, device: torch.device) -> Any:
    """A solver's state with its tensors on a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: placed(value, device) for key, value in state.items()}
    return [placed(value, device) for value in state] if isinstance(state, (list, tuple)) else state


def _adapted(pipe: Any) -> Any:
    """The pipeline itself, or one of the same components whose call has what a search needs.

    Raises:
        UnsupportedPipeline: on something that is no pipeline with a scheduler.
    """
    if not callable(pipe) or not hasattr(pipe, "scheduler"):
        raise UnsupportedPipeline(f"expected a diffusers pipeline with a scheduler, got {type(pipe).__name__}")
    if type(pipe).__name__ == "DiTPipeline":
        from noisewright.pipelines.dit import LatentDiTPipeline

        return LatentDiTPipeline(**pipe.components)
    return pipe


def _condition(pipe: Any, prompt: str | None, label: str | int | None) -> tuple[str, int | None]:
    """What verifiers are told, and the number of the class where the pipeline is conditioned on classes."""
    kind = type(pipe).__name__
    if not is_class_conditional(pipe):
        if label is not None:
            raise ValueError(f"{kind} is not class-conditional: expected a prompt, got the class {label!r}")
        if prompt is None:
            raise ValueError(f"expected a prompt for {kind}, got none")
        return prompt, None
    if label is None and prompt is None:
        raise ValueError(f"{kind} is class-conditional: expected a class_label, got none")
    number, name = read_class(pipe, prompt if label is None else label)  # type: ignore[arg-type]
    return name if label is None or prompt is None else prompt, number


def _check(pipe: Any, kind: str, settings: dict[str, Any]) -> None:
    accepted = inspect.signature(type(pipe).__call__).parameters
    missing = [name for name in NEEDED if name not in accepted]
    if not {"prompt", "class_labels"} & set(accepted):
        missing.insert(0, "prompt")
    if missing:
        raise UnsupportedPipeline(
            f"{kind} cannot be entered through its scheduler: its call has no {', '.join(missing)}"
        )
    for name, value in settings.items():
        if value is not None and name not in accepted:
            raise ValueError(f"{kind} takes no {name}")
    for name in ("height", "width"):
        value = settings.get(name)
        if value is not None and value < 1:
            raise ValueError(f"expected a {name} above 0, got {value}")


def _history(scheduler: Any, fresh: Any) -> dict[str, Any]:
    """What a scheduler's steps changed in it: the multistep history."""
    changed = {}
    for key, value in scheduler.__dict__.items():
        if key != "_internal_dict" and not _equal(value, fresh.__dict__.get(key)):
            changed[key] = value
    return changed


def _equal(a: Any, b: Any) -> bool:
    if torch.is_tensor(a) and torch.is_tensor(b):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a is b


def _draws_noise(scheduler: Any) -> bool:
    """Whether a scheduler's step draws noise, found by taking one step with two seeds."""
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return bool(scheduler.config.get("stochastic_sampling", False))
    results = []
    for seed in (0, 1):
        trial = copy.deepcopy(scheduler)
        sample = torch.ones(1, 4, 8, 8)
        time = trial.timesteps[0]
        trial.scale_model_input(sample, time)
        generator = torch.Generator("cpu").manual_seed(seed)
        results.append(trial.step(sample * 0.5, time, sample, generator=generator, return_dict=False)[0])
    return not torch.equal(results[0], results[1])


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _name(pipe: Any) -> str:
    return str(getattr(pipe, "name_or_path", "") or type(pipe).__name__)


def load_pipeline(directory_or_id: str | Path, *, device: str | None = None, dtype: str | None = None) -> Any:
    """Load a diffusers pipeline from a directory or a hub id, safetensors only.

    Args:
        directory_or_id: as ``DiffusionPipeline.from_pretrained`` takes it.
        device: ``cpu``, ``cuda``, ``mps``; by default the best there is.
        dtype: ``float32``, ``float16``, ``bfloat16``; by default float32 on a CPU, bfloat16 elsewhere.

    Raises:
        ValueError: in one line, what is wrong with it.
    """
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from safetensors import SafetensorError

    device = device or best_device()
    dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    path = Path(directory_or_id)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ValueError(f"expected a diffusers pipeline (a directory with model_index.json), got {path}")
        pickles = sorted(p for p in path.rglob("*") if p.suffix in {".bin", ".ckpt", ".pt", ".pth"})
        if pickles and not any(path.rglob("*.safetensors")):
            raise ValueError(
                f"expected safetensors weights, got the pickle {pickles[0].relative_to(path)} in {path}: "
                "pickles can run code, so they are refused"
            )
    diffusers_logging.disable_progress_bar()
    try:
        pipe = (_own_class(path) or DiffusionPipeline).from_pretrained(
            str(directory_or_id), torch_dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False
        )
    except (
        OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError, SafetensorError
    ) as error:  # fmt: skip
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"model {str(directory_or_id)!r} could not be loaded: {first}") from error
    return pipe.to(device)


def _own_class(directory: Path) -> Any:
    """Our class of a pipeline directory, or None where diffusers has it."""
    index = directory / "model_index.json"
    name = json.loads(index.read_text(encoding="utf-8")).get("_class_name") if index.is_file() else None
    module = OWN_PIPELINES.get(name) if isinstance(name, str) else None
    return getattr(importlib.import_module(module), str(name)) if module else None


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
