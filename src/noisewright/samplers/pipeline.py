"""Any diffusers pipeline as a sampler, entered through its scheduler.

For one public ``pipe(...)`` call, ``pipe.scheduler`` is swapped for a probe: a dynamic subclass of its own class whose
``step`` receives the *guided* prediction. Four kinds of call cover every verb, with no copied pipeline:

- zero steps without latents: the pipeline's own noise (shape, packing, dtype), and its real schedule;
- steps i..j with latents: a partial denoising;
- one step that keeps the clean estimate: a preview;
- zero steps with latents: a decode.

:mod:`~.calling` makes such a call, :mod:`~.prepared` reads the schedule, :mod:`~.segments` takes the steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.schedule import KINDS, Schedule
from noisewright.diffusion.schedules import Rule
from noisewright.diffusion.solvers import AnySolver, advance, asks_once, memory, nfe
from noisewright.errors import NotDifferentiable, UnsupportedPipeline
from noisewright.outside.messages import short
from noisewright.samplers import alone, segments
from noisewright.samplers.calling import Caller
from noisewright.samplers.condition import check_call, condition_of
from noisewright.samplers.described import described, placed
from noisewright.samplers.entry import Entry
from noisewright.samplers.fingerprint import Fingerprint, fingerprint
from noisewright.samplers.identity import canonical, copied
from noisewright.samplers.levels import begins_anywhere, has_midpoints
from noisewright.samplers.load import best_device as best_device
from noisewright.samplers.load import load_pipeline as load_pipeline
from noisewright.samplers.lora import source_recorded
from noisewright.samplers.model_index import OWN_PIPELINES as OWN_PIPELINES
from noisewright.samplers.options import listening, unread_words, without_effect
from noisewright.samplers.places import CPU, home, there
from noisewright.samplers.prepared import LEVELS as LEVELS
from noisewright.samplers.prepared import Prepared, prepare
from noisewright.samplers.protocol import Meter, StepNoise, quantise
from noisewright.samplers.restrictions import check_origins, check_split
from noisewright.samplers.seam import checkpointed
from noisewright.samplers.settings import Description
from noisewright.samplers.source import name_of
from noisewright.samplers.turns import cuts_gradient, remembers_inside, turn

STATES = ("model", "float32")
"""What precision states are kept in between steps."""


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
        prompt_embeds, pooled_prompt_embeds, negative_prompt_embeds, negative_pooled_prompt_embeds: as in diffusers, of
            one prompt, (1, tokens, width) or (1, width): what the network reads in place of the encoded texts. The
            prompt is what verifiers are told all the same.
        solver: one of ours, or None for the pipeline's own: mapped to the solver of ours that takes the same steps
            where there is one, and otherwise run by a private copy of the pipeline's scheduler.
        schedule: levels to use instead of the pipeline's, or a rule that makes them, or its name
            (:mod:`noisewright.diffusion.schedules`); needs a solver of ours.
        model: how the model is called in records.
        pipe_kwargs: further arguments of the pipeline's call, an explicit None included.
        entered: a pipeline of the same components that is called in place of ``pipe``, whose call lacks something.
        states: where the pipeline's loop works in half precision: ``model``: states are rounded to it after each step,
            and without a solver or a schedule of ours the pipeline's own scheduler takes the steps, so that images
            are those of plain diffusers; ``float32``: a solver of ours keeps its states in float32.
        native: whether the pipeline's own scheduler takes the steps, also where a solver of ours takes the same.

    Attributes:
        warnings: what the user should know, such as options without an effect; shared by copies, may grow.
        flagged: for each image decoded last, whether the pipeline's safety checker blacked it out; empty without one.
        resident: whether states between calls stay on ``device`` (:class:`~.optional.KeepsStates`).
        can_split: whether its way can be cut into segments.
        most_at_once: how many images it makes at a time; None is any number.
        reached: where a :meth:`denoise` with a solver of ours is that Ctrl-C ended: the index of the last step that was
            completed, the states there and the solver's; None where not one was.

    Raises:
        UnsupportedPipeline: where the seam cannot enter.
        ValueError: what the pipeline itself says of wrong arguments.
    """

    def __init__(
        self, pipe: Any, prompt: str | None = None, *, num_inference_steps: int, class_label: str | int | None = None,
        guidance_scale: float | None = None, negative_prompt: str | None = None, prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None, negative_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None, height: int | None = None, width: int | None = None,
        solver: AnySolver | None = None, schedule: Schedule | Rule | str | None = None, model: str | None = None,
        pipe_kwargs: dict[str, Any] | None = None, entered: Any = None, states: str = "model", native: bool = False,
    ) -> None:  # fmt: skip
        self._found = pipe
        self.pipe = _with_scheduler(pipe if entered is None else entered)
        self.prompt, self.class_label = condition_of(pipe, prompt, class_label)
        embeds = {
            "prompt_embeds": prompt_embeds, "pooled_prompt_embeds": pooled_prompt_embeds,
            "negative_prompt_embeds": negative_prompt_embeds,
            "negative_pooled_prompt_embeds": negative_pooled_prompt_embeds,
        }  # fmt: skip
        settings = {
            "guidance_scale": guidance_scale, "negative_prompt": negative_prompt, "height": height, "width": width,
            **{name: one for name, one in embeds.items() if one is not None}, **(pipe_kwargs or {}),
        }  # fmt: skip
        explicit, kind = tuple(pipe_kwargs or {}), type(pipe).__name__
        check_call(self.pipe, kind, settings, explicit)
        self._recorded = {key: canonical(value, key) for key, value in settings.items()}
        used = copied(settings)  # what is recorded is what is used, whatever becomes of the caller's
        self._caller = Caller(self.pipe, kind, self.prompt, self.class_label, used, explicit)
        self.meter: Meter = self._caller.meter
        self.warnings: list[str] = self._caller.warnings
        self._given_schedule = None if schedule == "pipeline" else schedule
        if states not in STATES:
            raise ValueError(f"expected states model or float32, got {short(states)}")
        self._states, self._native = states, native
        self._model = model or name_of(pipe)
        self._fingerprint: Fingerprint | None = None
        self._described: tuple[Prepared, Any, Description] | None = None  # to ask is to walk through all modules
        self._source = source_recorded(pipe)
        self.flagged: list[bool] = []
        self.resident = False
        self.can_split = not remembers_inside(self.pipe)
        self.most_at_once: int | None = None
        self.reached: tuple[int, Tensor, Any] | None = None
        with turn(self.pipe), listening(self.pipe) as heard:
            self._prepare(num_inference_steps, solver)
        self.warnings += without_effect(self.pipe, used, self._prepared.extra, explicit)
        self.warnings += unread_words(heard)

    def _prepare(self, steps: int, solver: AnySolver | None) -> None:
        self._prepared: Prepared = prepare(
            self._caller, steps, solver, self._given_schedule, native=self._native, states=self._states
        )
        self.solver = self._prepared.solver
        self.schedule = self._prepared.schedule
        self.stochastic = self._prepared.chance.matters

    # What it says of itself

    @property
    def device(self) -> torch.device:
        return self._caller.device

    @property
    def resident(self) -> bool:
        return self._resident

    @resident.setter
    def resident(self, value: bool) -> None:
        self._resident = value
        self._caller.held = self._caller.device if value else None  # the model stays as well

    @property
    def given_solver(self) -> AnySolver | None:
        """The solver that was asked for; None where the pipeline's own was to be used."""
        return self._prepared.given_solver

    @property
    def prediction(self) -> str:
        """What the model predicts: ``epsilon``, ``v_prediction``, ``sample``, ``flow`` or what else its config says."""
        return self._prepared.kind

    @property
    def remembers(self) -> bool:
        return self.solver is None or memory(self.solver) > 0

    @property
    def can_preview(self) -> bool:
        """Whether a clean estimate can be read from the network's prediction."""
        return self.prediction in KINDS and self.can_split

    @property
    def knows_levels(self) -> bool:
        """Whether the level of every state on the way is known, which a preview is made by."""
        return self.solver is not None or not has_midpoints(self._prepared.scheduler)

    @property
    def begins_anywhere(self) -> bool:
        """Whether a state at any level can be gone on from without the steps before it."""
        return self.solver is not None or begins_anywhere(self._prepared.scheduler, self.schedule)

    @property
    def can_advance(self) -> bool:
        plain = not self.entry.composes and not self.entry.edits
        return self.solver is not None and asks_once(self.solver) and plain

    @property
    def differentiable(self) -> bool:
        inside = self.entry.composes or cuts_gradient(self.pipe) or not self.can_split
        return self.solver is not None and not self.solver.stochastic and not inside

    @property
    def entry(self) -> Entry:
        """How states get into the pipeline's call and out of it."""
        return self._prepared.entry

    @property
    def rounds(self) -> bool:
        """Whether the pipeline's own loop keeps its states in half precision."""
        return self.entry.rounds(self.pipe.dtype)

    @property
    def draws_inside(self) -> bool:
        """Whether a call draws more than the starting noise, from each image's own generator."""
        return self.entry.draws

    @property
    def composes(self) -> bool:
        """Whether the pipeline makes its first state itself: what stands at index 0 is the unit noise of it alone."""
        return self.entry.composes

    def nfe(self, start: int, stop: int) -> int:
        return stop - start if self.solver is None else nfe(self.solver, self.schedule, start, stop)

    @property
    def description(self) -> dict[str, Any]:
        held, place = self._described, placed(self.pipe)
        if held is None or held[0] is not self._prepared or held[1] != place:
            held = self._described = self._prepared, place, self._describe()
        return copy.deepcopy(held[2])  # the caller's own

    def _describe(self) -> Description:
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self._found)
        about = {"model": self._model, "pipeline": type(self._found).__name__, "fingerprint": self._fingerprint}
        return described(about, self._recorded, self._caller, self._prepared, self._given_schedule, self._source)

    @property
    def _between(self) -> torch.device:
        """Where states are between calls."""
        return self.device if self.resident else CPU

    # The same on other levels

    def with_steps(self, steps: int) -> PipelineSampler:
        if isinstance(self._given_schedule, Schedule) and steps != self._given_schedule.steps:
            raise ValueError(f"expected the {self._given_schedule.steps} steps of the schedule given, got {steps}")
        for name in LEVELS:
            if steps != self._prepared.steps and self._caller.settings.get(name) is not None:
                raise ValueError(f"expected no other number of steps beside {name}, which say it, got {steps}")
        other = copy.copy(self)  # shares the pipeline, the encoded prompt and the meter
        other.resident = False
        other._prepare(steps, self.given_solver)
        return other

    def with_levels(self, schedule: Schedule | Rule | str, solver: AnySolver | None = None) -> PipelineSampler:
        """The same model, prompt and settings on other levels, and with another solver if one is given."""
        other = copy.copy(self)
        other.resident = False
        other._given_schedule = None if schedule == "pipeline" else schedule
        steps = schedule.steps if isinstance(schedule, Schedule) else self._prepared.steps
        other._prepare(steps, solver or self.given_solver)
        return other

    def restricted(self, *, native: bool = False, whole: bool = False) -> PipelineSampler:
        """The same, that does not rely on what does not hold of its pipeline.

        Args:
            native: the pipeline's own scheduler takes the steps, where no other solver was asked for.
            whole: segments are run in loops of full length.
        """
        other = copy.copy(self)
        other.resident, other._native = False, self._native or native
        other._caller = replace(self._caller, whole=self._caller.whole or whole)
        other._prepare(self._prepared.steps, self.given_solver)
        return other

    # The verbs

    def noise(self, seeds: Sequence[int]) -> Tensor:
        if self.entry.alone and len(seeds) > 1:
            return torch.cat([self.noise([seed]) for seed in seeds])

        def work() -> Tensor:
            generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
            return segments.starting_noise(self._caller, self._prepared, generators)

        x = self._caller.alone(work, "noise")
        return x * self.schedule.start if self.solver is not None else x

    def denoise(
        self, x: Tensor, start: int, stop: int, state: Any = None, noise: StepNoise | None = None,
        seeds: Sequence[int | None] | None = None, origins: Sequence[int | None] | None = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        """See :meth:`~.Sampler.denoise`, and :class:`~.DrawsInside` of ``origins``."""
        if not 0 <= start < stop <= self.schedule.steps:
            raise ValueError(f"expected 0 <= start < stop <= {self.schedule.steps}, got {start} to {stop}")
        check_split(self, start, stop)
        check_origins(self, origins)
        if self.entry.alone and len(x) > 1:
            self.reached = None
            return alone.denoised(self, x, start, stop, state, noise, seeds, origins)

        def work() -> tuple[Tensor, Any]:
            if self.solver is None:
                return segments.denoise_natively(
                    self._caller, self._prepared, x, start, stop, state, noise, seeds, origins, self._between
                )
            return segments.denoise(self._caller, self._prepared, x, start, stop, state, noise, origins, self._between)

        self.reached = self._caller.reached = None
        try:
            return self._entered(work, "denoise")
        except KeyboardInterrupt:
            if self._caller.reached is not None and self.can_split:
                index, now, after = self._caller.reached
                self.reached = index, now.cpu(), home(after)
            raise

    def _entered(self, work: Callable[[], Any], verb: str) -> Any:
        """Do ``work``; once more where the loop turns out to change states, after a walk that shows how."""
        try:
            return self._caller.alone(work, verb, "denoise")
        except segments.LoopEdits:
            if self._caller.walks:
                raise
            self._caller.walks = True
            self._prepare(self._prepared.steps, self.given_solver)
        return self._caller.alone(work, verb, "denoise")

    def advance(
        self, x: Tensor, index: int, clean: Tensor, state: Any = None, noise: StepNoise | None = None
    ) -> tuple[Tensor, Any]:
        if self.solver is None or not self.can_advance:
            raise UnsupportedPipeline(
                f"{type(self.pipe.scheduler).__name__} cannot step from a known estimate: choose --solver ddim"
            )
        drawn = None if noise is None else lambda at: noise(at).to(x.device)
        clean, state = clean.to(x.device), there(state, x.device)
        x, state = advance(self.solver, self.schedule, x, index, clean, state, drawn)
        return self._prepared.rounded(x, self.entry.dtype or self.pipe.dtype), state

    def predict(self, x: Tensor, index: int, origins: Sequence[int | None] | None = None) -> Tensor:
        check_split(self, index, index + 1)
        check_origins(self, origins)
        if self.entry.alone and len(x) > 1:
            return alone.predicted(self, x, index, origins)

        def work() -> Tensor:
            return segments.clean_estimate(self._caller, self._prepared, x, index, origins, self._between)

        return self._caller.alone(work, "predict", "denoise")

    def decode(self, x: Tensor, origins: Sequence[int | None] | None = None) -> Tensor:
        check_origins(self, origins)
        if self.entry.alone and len(x) > 1:
            images, self.flagged = alone.decoded(self, x, origins)
            return images

        def work() -> Tensor:
            images = segments.decoded(self._caller, self._prepared, x, origins)
            self.flagged = self._caller.flags if len(self._caller.flags) == len(x) else []
            self.meter.decodes += len(x)
            return quantise(images.detach().cpu())

        return self._caller.alone(work, "decode", "decode")

    def trace(self, x: Tensor) -> Tensor:
        if not self.differentiable:
            raise NotDifferentiable("expected a deterministic solver of noisewright's for a gradient: --solver ddim")

        def work() -> Tensor:
            with torch.enable_grad(), checkpointed(self.pipe):
                way = (x, 0, self.schedule.steps, None, None, None, self.device)
                clean, _ = segments.denoise(self._caller, self._prepared, *way, traced=True)
                try:
                    return segments.decoded(self._caller, self._prepared, clean, traced=True)
                except RuntimeError as error:
                    if "requires grad" not in str(error):
                        raise
                    kind = type(self.pipe).__name__
                    raise NotDifferentiable(f"{kind} makes arrays of its images, which have no gradient") from error

        return self._caller.alone(work, "trace", "denoise").float().cpu()


def _with_scheduler(pipe: Any) -> Any:
    """The pipeline itself.

    Raises:
        UnsupportedPipeline: on something that is no pipeline with a scheduler.
    """
    if not callable(pipe) or not hasattr(pipe, "scheduler"):
        raise UnsupportedPipeline(f"expected a diffusers pipeline with a scheduler, got {type(pipe).__name__}")
    return pipe
