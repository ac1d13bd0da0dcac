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
import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from noisewright.diffusion.clock import Level
from noisewright.diffusion.schedule import KINDS, Estimate, Schedule, check_falling, estimate
from noisewright.diffusion.schedules import Rule, named_schedule, rule_of
from noisewright.diffusion.solvers import (
    AnySolver,
    Stages,
    advance,
    asked,
    asks_once,
    eta_of,
    memory,
    nfe,
    splits,
    stages,
)
from noisewright.errors import NotDifferentiable, UnsupportedPipeline
from noisewright.outside.messages import first_line, short
from noisewright.samplers.chance import unaided
from noisewright.samplers.classes import is_class_conditional, read_class
from noisewright.samplers.fingerprint import Fingerprint, fingerprint
from noisewright.samplers.identity import canonical, copied
from noisewright.samplers.levels import (
    Levels,
    begins_anywhere,
    equal_solver,
    has_midpoints,
    read_levels,
    step_arguments,
)
from noisewright.samplers.load import best_device as best_device
from noisewright.samplers.load import load_pipeline as load_pipeline
from noisewright.samplers.model_index import OWN_PIPELINES as OWN_PIPELINES
from noisewright.samplers.native import (
    Chance,
    check_step,
    generators_of,
    history_of,
    kept_states,
    keyed_generator,
    resumed,
    scaled_input,
    takes_generator,
    tried,
)
from noisewright.samplers.options import listening, unread_words, without_effect
from noisewright.samplers.protocol import Meter, StepNoise, quantise
from noisewright.samplers.seam import Seam, checkpointed, entered, make_probe, without_guidance
from noisewright.samplers.settings import Description, older_settings
from noisewright.samplers.source import source_of
from noisewright.samplers.turns import turn

NEEDED = ("latents", "generator", "num_inference_steps", "output_type")

STEERING = ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise", "use_clipped_model_output")
"""Arguments of a scheduler's step that steer its own rule."""

LEVELS = ("timesteps", "sigmas")
"""Arguments of a pipeline's call that say its levels one by one."""

Output = TypeVar("Output")


_AFTER_SETTINGS = ("eta",)
"""Arguments of the pipeline's call whose place in a description another value takes."""


class PipelineSampler:
    """A :class:`noisewright.samplers.protocol.Sampler` over a diffusers pipeline object, which is left as it was found.

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
        schedule: levels to use instead of the pipeline's, or a rule that makes them, or its name
            (:mod:`noisewright.diffusion.schedules`); needs a solver of ours.
        model: how the model is called in records.
        pipe_kwargs: further arguments of the pipeline's call, an explicit None included.
        entered: a pipeline of the same components that is called in place of ``pipe``, whose call lacks something.

    Attributes:
        warnings: what the user should know, such as options without an effect; shared by copies, may grow.
        flagged: for each image decoded last, whether the pipeline's safety checker blacked it out; empty without one.

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
        schedule: Schedule | Rule | str | None = None,
        model: str | None = None,
        pipe_kwargs: dict[str, Any] | None = None,
        entered: Any = None,
    ) -> None:
        self._found = pipe
        self.pipe = _with_scheduler(pipe if entered is None else entered)
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
        self._fingerprint: Fingerprint | None = None
        self._explicit = tuple(pipe_kwargs or {})
        self._drawing: dict[str, bool] = {}
        self._flags: list[bool] = []
        self.flagged: list[bool] = []
        self.warnings: list[str] = []
        _check(self.pipe, type(pipe).__name__, self._settings, self._explicit)
        self._recorded = {key: canonical(value, key) for key, value in self._settings.items()}
        self._settings = copied(self._settings)  # what is recorded is what is used, whatever becomes of the caller's
        with turn(self.pipe), listening(self.pipe) as heard:
            self._prepare(num_inference_steps)
        notes = without_effect(self.pipe, self._settings, self._heard.extra, self._explicit)
        self.warnings += [*notes, *unread_words(heard)]

    def _prepare(self, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"expected at least 1 step, got {steps}")
        self._asked_steps = steps
        levels = self._read(steps)
        self._check_levels_given()
        passed = {key: value for key, value in self._heard.extra.items() if key != "generator"}
        solver = self._given_solver or equal_solver(levels, self._prepared, passed, self._heard.scales)
        if self._given_schedule is not None and solver is None:
            raise ValueError(
                f"a custom schedule needs a solver of noisewright's (ddim), got the pipeline's own "
                f"{type(self.pipe.scheduler).__name__}"
            )
        self.solver = solver
        self.schedule = self._levels(levels, steps)
        self._kind = levels.kind
        self._passed = passed
        if solver is None:
            check_step(self._prepared)
        self._chance = tried(self._prepared, passed) if solver is None else Chance(solver.stochastic)
        self.stochastic = self._chance.matters

    def _check_levels_given(self) -> None:
        """Refuse what is given twice: levels beside a schedule, arguments of a rule beside another in its place."""
        twice: list[str] = []
        if self._given_schedule is not None:
            twice += [name for name in LEVELS if self._settings.get(name) is not None]
        if self._given_solver is not None:
            twice += [name for name in STEERING if name in self._explicit and self._settings.get(name) is not None]
        for name in twice:
            place = "schedule" if name in LEVELS else f"solver {self._given_solver.name}"  # type: ignore[union-attr]
            raise ValueError(f"expected no {name} of the pipeline's beside a {place}, got {self._settings[name]!r}")

    def _levels(self, levels: Levels, steps: int) -> Schedule:
        """The levels to visit: those that were given, by a rule or one by one, or the pipeline's own."""
        given, own = self._given_schedule, levels.schedule
        if isinstance(given, (str, Rule)):
            if own.clock is None:
                raise ValueError(
                    f"expected a scheduler that tells the time of a level for schedule {rule_of(given).name!r}, got "
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
        for name in LEVELS:
            if steps != self._asked_steps and self._settings.get(name) is not None:
                raise ValueError(f"expected no other number of steps beside {name}, which say it, got {steps}")
        other = copy.copy(self)  # shares the pipeline, the encoded prompt and the meter
        other._prepare(steps)
        return other

    def with_levels(self, schedule: Schedule | Rule | str, solver: AnySolver | None = None) -> PipelineSampler:
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
        held = given.to_json() if isinstance(given, Schedule) else None if given is None else rule_of(given).name
        levels = {} if held is None else {"levels": held}
        found = {
            "model": self._model,
            "pipeline": type(self._found).__name__,
            "fingerprint": self._fingerprint,
            "prompt": self.prompt,
            **label,
            **copied(self._recorded),
            "num_inference_steps": self._asked_steps,
            "solver": self.solver.name if self.solver is not None else type(self.pipe.scheduler).__name__,
            "eta": self._eta,
            "schedule": self.schedule.digest,
            **levels,
            **self._unlike_before(),
            **({} if (source := source_of(self._found)) is None else source.to_json()),
            "dtype": str(self.pipe.dtype).removeprefix("torch."),
            "device": str(self.device),
        }
        about = Description(found)
        own = {key: value for key, value in self._settings.items() if key not in _AFTER_SETTINGS}
        about.older = partial(older_settings, own)
        return about

    @property
    def _eta(self) -> float | None:
        """The solver's, or what the pipeline passes to a scheduler whose own default is another."""
        if self.solver is not None:
            return eta_of(self.solver)
        return step_arguments(self._prepared, self._passed).get("eta")

    def _unlike_before(self) -> dict[str, Any]:
        """What tells a run from one of version 0.1 that was recorded with the same words and did something else."""
        accepted = inspect.signature(type(self.pipe).__call__).parameters
        none = [name for name in self._explicit if self._settings[name] is None and accepted[name].default is not None]
        late = self.solver is None and self._chance.matters and not self._chance.from_start
        return {**({"none": none} if none else {}), **({"step_noise": "seeded"} if late else {})}

    @property
    def device(self) -> torch.device:
        return torch.device(getattr(self.pipe, "_execution_device", None) or self.pipe.device)

    # The verbs

    def noise(self, seeds: Sequence[int]) -> Tensor:
        def work() -> Tensor:
            return self._noise_from([torch.Generator("cpu").manual_seed(seed) for seed in seeds])

        x = self._ask(work, "noise")
        return x * self.schedule.start if self.solver is not None else x

    def denoise(
        self, x: Tensor, start: int, stop: int, state: Any = None, noise: StepNoise | None = None,
        seeds: Sequence[int | None] | None = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        if not 0 <= start < stop <= self.schedule.steps:
            raise ValueError(f"expected 0 <= start < stop <= {self.schedule.steps}, got {start} to {stop}")

        def work() -> tuple[Tensor, Any]:
            if self.solver is None:
                return self._denoise_natively(x, start, stop, state, noise, seeds)
            return self._denoise(x, start, stop, state, noise)

        return self._ask(work, "denoise", "denoise")

    @property
    def can_preview(self) -> bool:
        """Whether a clean estimate can be read from the network's prediction."""
        return self._kind in KINDS

    @property
    def prediction(self) -> str:
        """What the network predicts, as its scheduler has it."""
        return str(self.pipe.scheduler.config.get("prediction_type"))

    @property
    def knows_levels(self) -> bool:
        """Whether the level of every state on the way is known, which a preview is made by."""
        return self.solver is not None or not has_midpoints(self._prepared)

    @property
    def begins_anywhere(self) -> bool:
        """Whether a state at any level can be gone on from without the steps before it."""
        return self.solver is not None or begins_anywhere(self._prepared, self.schedule)

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
        return self._ask(lambda: self._predict(x, index), "predict", "denoise")

    def decode(self, x: Tensor) -> Tensor:
        def work() -> Tensor:
            images = self._call(Seam(self.pipe.scheduler, torch.empty(0), None), x, output_type="pt")
            self.flagged = self._flags if len(self._flags) == len(x) else []
            self.meter.decodes += len(x)
            return quantise(images.detach().cpu())

        return self._ask(work, "decode", "decode")

    @property
    def differentiable(self) -> bool:
        return self.solver is not None and not self.solver.stochastic

    def trace(self, x: Tensor) -> Tensor:
        if not self.differentiable:
            raise NotDifferentiable("expected a deterministic solver of noisewright's for a gradient: --solver ddim")

        def work() -> Tensor:
            with torch.enable_grad(), checkpointed(self.pipe):
                clean, _ = self._denoise(x, 0, self.schedule.steps, None, None, traced=True)
                seam = Seam(self.pipe.scheduler, torch.empty(0), None)
                return self._call(seam, clean, output_type="pt", traced=True)

        return self._ask(work, "trace", "denoise").float().cpu()

    # How they enter

    def _ask(self, work: Callable[[], Output], verb: str, phase: str | None = None) -> Output:
        """Do ``work`` inside the pipeline, alone in there, and without help of the process's own random numbers."""
        with turn(self.pipe), self.meter.phase(phase) if phase else nullcontext():
            return unaided(work, type(self._found).__name__, self._drawing, verb, self._say)

    def _say(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _predict(self, x: Tensor, index: int) -> Tensor:
        schedule = self.schedule
        found: list[Tensor] = []
        seam = self._seam(index, index + 1, None)
        if self.solver is None:
            seam.own_input = scaled_input(resumed(self._prepared, None, index))

        def on_step(prediction: Tensor, timestep: Any, sample: Tensor, given: dict[str, Any]) -> Tensor:
            self._count(prediction, x)
            state = x.to(prediction.device)
            one = estimate(prediction.float(), state, schedule.alpha[index], schedule.sigma[index], self._kind)
            found.append(one.clean)
            return sample

        seam.on_step = on_step
        self._call(seam, x)
        return self._taken(found)

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

        def on_step(prediction: Tensor, timestep: Any, sample: Tensor, given: dict[str, Any]) -> Tensor:
            nonlocal index, now, state, step, seen
            self._count(prediction, x)
            self._check_given(given)
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
        scheduler = resumed(self._prepared, None if state is None else state["history"], start)
        generators: list[torch.Generator] = []
        if self.stochastic:
            generators = self._step_generators(x, start, state, noise, seeds)
        elif takes_generator(scheduler):  # what it draws, if it does, does not matter
            generators = [torch.Generator("cpu").manual_seed(0) for _ in x]
        fresh = [generator.get_state() for generator in generators]
        now = x.to(self.device, torch.float32)
        taken = 0

        def on_step(prediction: Tensor, timestep: Any, sample: Tensor, given: dict[str, Any]) -> Any:
            nonlocal now, taken
            self._count(prediction, x)
            if self.stochastic and "generator" not in given:
                self._say(
                    f"{type(self._found).__name__} gives {type(scheduler).__name__} no generator, so that no seed "
                    "names its plain image: noisewright draws the step noise from each seed's own generator"
                )
            more = {**given, "generator": generators} if generators else given
            after = scheduler.step(model_output=prediction, timestep=timestep, sample=sample, **more)
            now = after[0] if isinstance(after, tuple) else after.prev_sample
            taken += 1
            return after

        seam = self._seam(start, stop, on_step)
        seam.own_input = scaled_input(scheduler)
        self._call(seam, x)
        if taken != stop - start:
            raise UnsupportedPipeline(
                f"{type(self.pipe).__name__} took {taken} scheduler steps where {stop - start} were asked"
            )
        after: dict[str, Any] = {"history": history_of(scheduler, self._prepared)}
        if self.stochastic:
            after["generators"] = kept_states(generators)
        elif not self._chance.draws and any(map(_differ, fresh, kept_states(generators) if generators else ())):
            raise UnsupportedPipeline(
                f"{type(scheduler).__name__} draws noise here, where it drew none when its steps were tried: choose "
                "--solver ddim"
            )
        return now.float().cpu(), after

    def _check_given(self, given: dict[str, Any]) -> None:
        """Refuse what the pipeline passes to ``step`` and our solver does not know.

        Raises:
            UnsupportedPipeline: in one line.
        """
        unknown = step_arguments(self._prepared, given)
        if self._given_solver is not None or unknown.get("eta") == eta_of(self.solver):
            unknown.pop("eta", None)
        if self._given_solver is not None:  # in place of the rule that these steer
            unknown = {name: value for name, value in unknown.items() if name not in STEERING}
        for name, value in unknown.items():
            shown = value if isinstance(value, (int, float, str)) else type(value).__name__
            raise UnsupportedPipeline(
                f"{type(self._found).__name__} passes {name} = {shown} to its scheduler's step, which solver "
                f"{self.solver.name if self.solver else 'none'} does not know"
            )

    def _step_generators(
        self, x: Tensor, start: int, state: Any, noise: StepNoise | None, seeds: Sequence[int | None] | None
    ) -> list[torch.Generator]:
        """A generator for each row. From index 0 of a seeded state it goes on where the starting noise ended, as in
        plain diffusers; a later segment takes it up from ``state``; a branch is seeded from its own step noise.
        """
        if state is not None:
            return generators_of(state["generators"])
        generators = []
        keyed = noise(start) if noise is not None else None
        for row in range(len(x)):
            seed = seeds[row] if seeds is not None else None
            if start == 0 and seed is not None:
                generator = torch.Generator("cpu").manual_seed(seed)
                self._noise_from([generator])
            elif keyed is not None:
                generator = keyed_generator(keyed[row])
            else:
                raise ValueError("expected step noise or seeds for a stochastic scheduler, got neither")
            generators.append(generator)
        return generators

    def _noise_from(self, generators: list[torch.Generator]) -> Tensor:
        seam = Seam(self.pipe.scheduler, torch.empty(0), None)
        if self.solver is None:
            seam.init_scale = float(getattr(self._prepared, "init_noise_sigma", 1.0))
        x = self._call(seam, None, generator=generators, batch=len(generators))
        return x.detach().float().cpu()

    def _read(self, steps: int) -> Levels:
        """The pipeline's real schedule, resolution-dependent shifts included, from a call of zero steps."""
        seam = Seam(self.pipe.scheduler, None, None)
        generator = [torch.Generator("cpu").manual_seed(0)]
        try:
            self._ask(lambda: self._call(seam, None, generator=generator, batch=1, steps=steps), "read")
        except (AttributeError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
            first = first_line(error, 120, empty="")
            raise ValueError(
                f"expected settings that {type(self.pipe).__name__} can be called with, got {self._said(steps)} "
                f"({type(error).__name__}: {first})"
            ) from error
        self._heard = seam
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
        given: dict[str, Any] = {
            key: copied(value) for key, value in self._settings.items() if value is not None or key in self._explicit
        }
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
        extra = seam.extra if seam.times is None else None
        with entered(self.pipe, make_probe(seam), self._encoded, self.meter, seam.branches, extra) as call:
            try:
                output = (getattr(call, "__wrapped__", call) if traced else call)(self.pipe, **given)
            except UnboundLocalError as error:  # what its loop would have set
                raise UnsupportedPipeline(
                    f"{type(self._found).__name__} cannot be called with no step to take: {error}"
                ) from error
        flags = getattr(output, "nsfw_content_detected", None) or getattr(output, "nsfw_detected", None) or []
        self._flags = [bool(one) for one in flags]
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
        self.meter.count(int(x.shape[0]))

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


def _with_scheduler(pipe: Any) -> Any:
    """The pipeline itself.

    Raises:
        UnsupportedPipeline: on something that is no pipeline with a scheduler.
    """
    if not callable(pipe) or not hasattr(pipe, "scheduler"):
        raise UnsupportedPipeline(f"expected a diffusers pipeline with a scheduler, got {type(pipe).__name__}")
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


def _check(pipe: Any, kind: str, settings: dict[str, Any], explicit: Sequence[str]) -> None:
    accepted = inspect.signature(type(pipe).__call__).parameters
    missing = [name for name in NEEDED if name not in accepted]
    if not {"prompt", "class_labels"} & set(accepted):
        missing.insert(0, "prompt")
    if missing:
        raise UnsupportedPipeline(
            f"{kind} cannot be entered through its scheduler: its call has no {', '.join(missing)}"
        )
    for name, value in settings.items():
        if (value is not None or name in explicit) and name not in accepted:
            raise ValueError(f"{kind} takes no {name}")
    for name in ("height", "width"):
        value = settings.get(name)
        if value is not None and value < 1:
            raise ValueError(f"expected a {name} above 0, got {value}")


def _differ(a: Tensor, b: Tensor) -> bool:
    return not torch.equal(a, b)


def _name(pipe: Any) -> str:
    return str(getattr(pipe, "name_or_path", "") or type(pipe).__name__)
