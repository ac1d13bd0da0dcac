"""What a sampler may have beside what :class:`~.Sampler` asks for: a small protocol each, and what holds without it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

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
