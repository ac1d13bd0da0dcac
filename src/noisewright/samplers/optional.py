"""What a sampler may have beside what :class:`~.Sampler` asks for: a small protocol each, and what holds without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Warns(Protocol):
    """A sampler with something to say to the person, such as options that have no effect.

    Attributes:
        warnings: one line each; may grow while it works.
    """

    warnings: list[str]


@runtime_checkable
class Flags(Protocol):
    """A sampler that knows which images a safety checker blacked out.

    Attributes:
        flagged: for each image decoded last, whether it was; empty where nothing checks.
    """

    flagged: list[bool]


@runtime_checkable
class SaysWhetherPreviews(Protocol):
    """A sampler that may have no clean estimates on the way.

    Attributes:
        can_preview: whether ``predict`` gives one.
        prediction: what the network predicts, for messages.
    """

    @property
    def can_preview(self) -> bool: ...

    @property
    def prediction(self) -> str: ...


@runtime_checkable
class SaysWhereItBegins(Protocol):
    """A sampler whose solver may need the steps before a level to go on from it.

    Attributes:
        begins_anywhere: whether a state at any level can be gone on from without them.
    """

    @property
    def begins_anywhere(self) -> bool: ...


@runtime_checkable
class SaysWhetherItKnowsLevels(Protocol):
    """A sampler whose states may stand at levels that nothing tells.

    Attributes:
        knows_levels: whether the level of every state on the way is known, which a preview is made by.
    """

    @property
    def knows_levels(self) -> bool: ...


@runtime_checkable
class DrawsInside(Protocol):
    """A sampler whose calls may draw more than the starting noise, such as the posterior of an image's encoding.

    Its ``denoise``, ``predict`` and ``decode`` take ``origins``: for each state the seed of the starting noise that it
    comes from in the end, whose generator that is drawn from.

    Attributes:
        draws_inside: whether they do.
    """

    @property
    def draws_inside(self) -> bool: ...


@runtime_checkable
class Composes(Protocol):
    """A sampler that may make its first state itself, of an image and noise.

    Attributes:
        composes: whether it does: what stands at index 0 is then the unit noise alone, which no later state can be
            carried back to.
    """

    @property
    def composes(self) -> bool: ...


@runtime_checkable
class TakesLevels(Protocol):
    """A sampler that can be had on other levels, which ``--schedule`` asks for."""

    @property
    def given_solver(self) -> Any:
        """The solver that was asked for; None where the sampler chose."""
        ...

    def with_levels(self, schedule: Any, solver: Any = None) -> Any:
        """The same model, prompt and settings on a :class:`~.Schedule`, or by a rule or its name."""
        ...


@runtime_checkable
class KeepsStates(Protocol):
    """A sampler that can leave states where the model computes between the segments of a micro-batch.

    Attributes:
        resident: while it is true, ``denoise``, ``predict`` and ``advance`` take states and the solver's on ``device``
            and give them there; ``decode`` takes them there. ``noise``, step noise, images and ``trace`` are on the CPU
            whatever it is.
        device: where the model computes.
    """

    resident: bool

    @property
    def device(self) -> torch.device: ...


@runtime_checkable
class KnowsPlainCall(Protocol):
    """A pipeline that is called in place of a person's, whose own call takes other arguments for the same image."""

    def plain_arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of the person's own pipeline for those of this one."""
        ...


@runtime_checkable
class ShowsOtherwise(Protocol):
    """A pipeline that is called in place of a person's, whose pictures show what that one gives in another way."""

    def shown_as_here(self, pictures: Tensor) -> Tensor:
        """The pictures of this pipeline for what the person's own gives in its plain call, as tensors."""
        ...


@runtime_checkable
class SaysWhatItCan(Protocol):
    """A sampler that may not be able to do all that a search can ask of it.

    Attributes:
        can_split: whether its way can be cut into segments.
        most_at_once: how many images it makes at a time; None is any number.
    """

    can_split: bool
    most_at_once: int | None


@runtime_checkable
class SaysWhatItStartsFrom(Protocol):
    """A sampler that may be able to start from nothing but the noises of seeds.

    Attributes:
        seeds_alone: whether it is so: a noise that was moved is none of them.
    """

    seeds_alone: bool


@runtime_checkable
class ShowsFrames(Protocol):
    """A sampler of videos, whose images are frames side by side (:func:`noisewright.images.frames.strip`).

    Attributes:
        frames_shown: how many stand side by side in each image.
        frame_rate: frames a second of the video.
    """

    frames_shown: int
    frame_rate: float

    def take_film(self) -> Tensor | None:
        """All frames of what was decoded last, (batch, frames, 3, height, width) uint8, once; None without them."""
        ...


def warnings_of(sampler: object) -> list[str]:
    """What a sampler has to say so far."""
    return list(sampler.warnings) if isinstance(sampler, Warns) else []


def flags_of(sampler: object, count: int) -> list[bool]:
    """For each of the ``count`` images decoded last, whether it was blacked out; False where nothing checks."""
    found = list(sampler.flagged) if isinstance(sampler, Flags) else []
    return found or [False] * count


def frames_shown(sampler: object) -> int:
    """How many frames of a video stand side by side in each image of a sampler; 1 where they are images."""
    return sampler.frames_shown if isinstance(sampler, ShowsFrames) else 1


def can_preview(sampler: object) -> bool:
    """Whether a sampler gives clean estimates on the way; it does where it does not say."""
    return sampler.can_preview if isinstance(sampler, SaysWhetherPreviews) else True


def prediction_of(sampler: object) -> str:
    """What a sampler's network predicts, where it says so, for messages."""
    return sampler.prediction if isinstance(sampler, SaysWhetherPreviews) else type(sampler).__name__


def begins_anywhere(sampler: object) -> bool:
    """Whether a sampler can go on from a state at any level; it can where it does not say."""
    return sampler.begins_anywhere if isinstance(sampler, SaysWhereItBegins) else True


def knows_levels(sampler: object) -> bool:
    """Whether a sampler knows the level of every state on the way; it does where it does not say."""
    return sampler.knows_levels if isinstance(sampler, SaysWhetherItKnowsLevels) else True


def draws_inside(sampler: object) -> bool:
    """Whether a sampler takes the seeds that states come from in the end; it does not where it does not say."""
    return isinstance(sampler, DrawsInside) and sampler.draws_inside


def composes(sampler: object) -> bool:
    """Whether a sampler makes its first state itself; it does not where it does not say."""
    return isinstance(sampler, Composes) and sampler.composes


@contextmanager
def resident(sampler: object) -> Iterator[torch.device]:
    """Within the block a sampler that can leaves states where it computes. Gives the place where they are."""
    if not isinstance(sampler, KeepsStates):
        yield torch.device("cpu")
        return
    before, sampler.resident = sampler.resident, True
    try:
        yield sampler.device
    finally:
        sampler.resident = before


def can_split(sampler: object) -> bool:
    """Whether a sampler's way can be cut into segments; it can where it does not say."""
    return sampler.can_split if isinstance(sampler, SaysWhatItCan) else True


def seeds_alone(sampler: object) -> bool:
    """Whether a sampler starts from the noises of seeds alone; it takes any noise where it does not say."""
    return isinstance(sampler, SaysWhatItStartsFrom) and sampler.seeds_alone


def most_at_once(sampler: object, wanted: int) -> int:
    """How many images a sampler makes at a time where ``wanted`` are."""
    most = sampler.most_at_once if isinstance(sampler, SaysWhatItCan) else None
    return wanted if most is None else min(wanted, most)
