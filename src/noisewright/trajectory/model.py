"""A model and the prompts that it is asked for: what schedules are measured, fitted and compared on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.schedules import named_schedule
from noisewright.diffusion.solvers import AnySolver, Ddim
from noisewright.outside.messages import short
from noisewright.outside.prompts import read_prompts
from noisewright.planning import load
from noisewright.progress import Show, displayed
from noisewright.samplers.classes import count_classes, is_class_conditional, labels_of
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.quiet import quiet
from noisewright.schemas.reading import is_file
from noisewright.schemas.schedules import PromptsArgument, WrongArgument, argument, check_arguments
from noisewright.trajectory.files import FittedSchedule, identity, load_for, on_path, read_schedule_file
from noisewright.trajectory.path import path_of
from noisewright.trajectory.progress import Progress, Report

STEPS = 25
"""Of a pipeline's own schedule, where its card says nothing."""

PromptSource = str | Path | Sequence[str | int]
"""A prompt (or a class), several, or by a Path a file with one a line."""

Start = str | Path | FittedSchedule
"""The name of a rule, a schedule file, or what :func:`noisewright.fit_schedule` gave."""


@dataclass(frozen=True)
class PromptedModel:
    """A pipeline, and what it is asked for.

    Attributes:
        pipe: the pipeline; or a sampler, which has its own prompt.
        name: how it is called in records; None leaves that to the pipeline.
        card: its model card.
        guidance_scale: of all samplers.
        steps: of the pipeline's own schedule.
        prompts: or classes; empty where nobody said any.
    """

    pipe: Any
    name: str | None
    card: Mapping[str, Any]
    guidance_scale: float | None
    steps: int
    prompts: Sequence[str]

    def sampler(self, prompt: str) -> Sampler:
        """The sampler of a prompt or a class, by ddim: native schedulers have levels in their own coordinates."""
        if isinstance(self.pipe, Sampler):
            return self.pipe
        settings = {
            "num_inference_steps": self.steps, "guidance_scale": self.guidance_scale, "model": self.name,
            "solver": Ddim(), "class_label": prompt if self.has_classes else None,
        }  # fmt: skip
        made: Sampler = registry.make_sampler(self.pipe, None if self.has_classes else prompt, settings)
        return made

    @property
    def has_classes(self) -> bool:
        """Whether it is asked for classes, and not for prompts."""
        return not isinstance(self.pipe, Sampler) and is_class_conditional(self.pipe)

    @property
    def is_latent(self) -> bool:
        """Whether its states are those of a VAE."""
        return getattr(self.pipe, "vae", None) is not None

    def with_own_guidance(self) -> PromptedModel:
        """The same pipeline at the guidance that its card has."""
        return replace(self, guidance_scale=self.card.get("default", {}).get("guidance_scale"))

    def with_default_prompts(self) -> PromptedModel:
        """Where nobody said any: every class of a class-conditional model, else the empty prompt."""
        if self.prompts:
            return self
        if not self.has_classes:
            return replace(self, prompts=[""])
        count = count_classes(self.pipe, labels_of(self.pipe)) or 1
        return replace(self, prompts=[str(number) for number in range(count)])

    def with_prompts(self) -> PromptedModel:
        """As :meth:`with_default_prompts`, for what is sampled with guidance, which the empty prompt leaves idle.

        Raises:
            WrongArgument: for a model of prompts that nobody said.
        """
        accepted = signature(type(self.pipe).__call__).parameters if not isinstance(self.pipe, Sampler) else {}
        if not self.prompts and "prompt" in accepted and not self.has_classes:
            raise WrongArgument(
                f"expected {argument('prompts')}: with the empty prompt guidance does nothing ('' asks for that), got "
                "none"
            )
        return self.with_default_prompts()


def prompted_model(
    model: Any, prompts: Sequence[str] | None, guidance_scale: float | None, device: str | None, dtype: str | None
) -> PromptedModel:
    """Load a model where it is a name.

    Args:
        model: a bundled model, a pipeline directory, a hub id, a pipeline object or a sampler.
        prompts: or classes.
        guidance_scale: by default the card's.
        device, dtype: where and how to load a name.

    Raises:
        ValueError: on an unknown name, or a device beside a model that is loaded already.
    """
    name = str(model) if isinstance(model, (str, Path)) else None
    if name is not None:
        pipe, card = load(name, device=device, dtype=dtype), registry.card(registry.find_model(name))
    elif device or dtype:
        option = "device" if device else "dtype"
        raise WrongArgument(
            f"expected no {argument(option)} beside a pipeline that is loaded already, got {short(device or dtype)}"
        )
    else:
        pipe, card = model, registry.card(getattr(model, "name_or_path", None))
    default = card.get("default", {})
    scale = default.get("guidance_scale") if guidance_scale is None else guidance_scale
    return PromptedModel(pipe, name, card, scale, int(default.get("num_inference_steps", STEPS)), list(prompts or []))


@contextmanager
def reporting(progress: Callable[[Progress], None] | bool | None) -> Iterator[Report | None]:
    """What is to be called with the progress: a person's function, or what draws it; the libraries are quiet inside.

    Args:
        progress: a function; else as :func:`noisewright.progress.displayed` takes it.
    """
    with quiet():
        if callable(progress):
            yield progress
            return
        with displayed(progress) as show:
            yield None if show is None else drawn_by(show)


def drawn_by(show: Show) -> Report:
    """A display as what is called with the progress."""
    return lambda progress: show(progress.share, progress.seconds_left, str(progress))


def prompts_of(given: Any) -> list[str] | None:
    """Prompts (or classes) as a list: of a text, of several, or of a file that has one a line, named by a Path.

    Raises:
        ValueError, TypeError: in one line, on too many, too long ones, an empty file, or what is no text.
    """
    if not isinstance(given, Path):
        return check_arguments(PromptsArgument, prompts=given).prompts
    return read_prompts(given)


def deterministic_solver(name: str) -> AnySolver:
    """A solver of ours that draws no noise.

    Raises:
        ValueError: on another name.
    """
    made: AnySolver | None = registry.make_solver(name)
    if made is None:
        raise ValueError("expected a solver of noisewright's for custom levels (ddim), got 'pipeline'")
    if made.stochastic:
        raise ValueError(f"expected a deterministic solver, got {name}")
    return made


def read_start(start: Start) -> FittedSchedule | str:
    """The schedule of a file, or the name of a rule; nothing is loaded.

    Raises:
        ValueError, TypeError: on a file that is none, or an unknown name.
    """
    if isinstance(start, FittedSchedule):
        return start
    if not isinstance(start, (str, Path)):
        raise TypeError(f"expected a schedule as a name, a file or what fit_schedule gave, got {short(start)}")
    name = str(start)
    if name.endswith(".json") or is_file(name):
        return read_schedule_file(name)
    valid = registry.names("schedule")
    if name not in valid:
        raise ValueError(registry.unknown("schedule", name, valid) + " (or a file of `schedule fit`)")
    return name


def start_schedule(start: Start, sampler: Sampler, steps: int, force: bool) -> Schedule:
    """The levels of :func:`read_start` for a sampler's model.

    Raises:
        ValueError: on a file of another model, unless by force, or a model whose scheduler tells no times.
    """
    found = read_start(start)
    if isinstance(found, FittedSchedule):
        if isinstance(start, (str, Path)):
            return load_for(start, sampler, force)
        found.check(identity(sampler), force)
        return on_path(found.schedule, path_of(sampler), "the schedule", force)
    if found == "pipeline":
        return sampler.with_steps(steps).schedule
    return named_schedule(registry.schedule_rule(found), path_of(sampler).clock, steps)
