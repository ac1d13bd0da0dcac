"""Videos as images: some of their frames side by side, left to right, in one picture (a strip)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noisewright.outside.messages import short
from noisewright.schemas.checked import FRAME_NAMES, MOST_FRAMES

if TYPE_CHECKING:
    from torch import Tensor

KEY_FRAMES = 4
"""That a strip shows where nothing says how many."""

Choice = int | str
"""Which frames are shown: a number of them, spread evenly from the first to the last, or one of :data:`FRAME_NAMES`."""


CHOICES = f"{', '.join(FRAME_NAMES)} or a number in [1, {MOST_FRAMES}]"
"""What a choice may be, in words."""


def is_choice(frames: Any) -> bool:
    """Whether it is one of :data:`FRAME_NAMES`, or a number of frames that a strip can show."""
    return frames in FRAME_NAMES if isinstance(frames, str) else type(frames) is int and 1 <= frames <= MOST_FRAMES


def check_choice(frames: Any) -> Choice:
    """The choice of frames, as it was given.

    Raises:
        ValueError: in one line.
    """
    if not is_choice(frames):
        raise ValueError(f"expected {CHOICES} as frames, got {short(frames)}")
    found: Choice = frames
    return found


def count_of(choice: Choice) -> int:
    """How many frames a choice shows."""
    return choice if isinstance(choice, int) else 1


def chosen(choice: Choice, total: int) -> list[int]:
    """The places of the chosen frames among ``total``, in order; of more frames than there are, some stand twice."""
    if choice == "first":
        return [0]
    if choice == "last":
        return [total - 1]
    if choice in ("middle", 1):
        return [total // 2]
    assert isinstance(choice, int)  # noqa: S101 - narrows the type
    return [round(number * (total - 1) / (choice - 1)) for number in range(choice)]


def strip(frames: Tensor) -> Tensor:
    """Frames (batch, frames, 3, height, width) side by side: (batch, 3, height, frames * width)."""
    batch, count, channels, height, width = frames.shape
    return frames.permute(0, 2, 3, 1, 4).reshape(batch, channels, height, count * width)


def cut(images: Tensor, count: int) -> Tensor:
    """Strips (batch, 3, height, count * width) as frames (batch * count, 3, height, width), those of a strip in turn.

    Raises:
        ValueError: where the width is no multiple of the count.
    """
    batch, channels, height, whole = images.shape
    if whole % count:
        raise ValueError(f"expected strips of {count} frames of one width, got {whole} pixels")
    apart = images.reshape(batch, channels, height, count, whole // count)
    return apart.permute(0, 3, 1, 2, 4).reshape(batch * count, channels, height, whole // count)


def batched(values: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """What belongs to the frames of :func:`cut`, strip by strip."""
    return [values[start : start + count] for start in range(0, len(values), count)]


def frames_in(recipe: Any) -> int:
    """How many frames the image of a recipe shows, side by side; 1 of an image that is none of a video."""
    sampler = recipe.get("sampler") if isinstance(recipe, dict) else None
    found = sampler.get("frames") if isinstance(sampler, dict) else None
    return found if type(found) is int and 1 <= found <= MOST_FRAMES else 1
