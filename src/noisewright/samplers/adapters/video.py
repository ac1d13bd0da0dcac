"""Pipelines that give videos, entered as pipelines of one image a video: some of its frames side by side."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from noisewright.errors import UnsupportedPipeline
from noisewright.images.frames import KEY_FRAMES, Choice, check_choice, chosen, count_of, strip
from noisewright.images.video import MISSING, can_encode
from noisewright.samplers.adapters.cogvideox import remembering
from noisewright.samplers.adapters.plain import has_scheduler, plain
from noisewright.samplers.pipeline import PipelineSampler

SAYS_FRAMES = ("num_frames", "video_length", "num_videos_per_prompt")
"""Arguments that only calls have which give videos."""

LENGTHS = ("num_frames", "video_length")
RATES = ("frame_rate", "fps")

FRAME_RATES = {
    "Wan": 16.0, "SkyReelsV2": 24.0, "HunyuanVideo": 24.0, "Kandinsky5": 24.0, "Mochi": 30.0, "Cosmos": 16.0,
    "Allegro": 15.0, "LTX": 25.0, "SanaVideo": 16.0, "CogVideoX": 8.0, "AnimateDiff": 8.0,
}  # fmt: skip
"""Frames a second by what a pipeline's class begins with, where its call has no argument for them: what the model was
trained on, as the documentation of diffusers has it."""

FRAME_RATE = 8.0
"""Frames a second where nothing says how many."""

IMAGE_FOR_EACH = ("LTXImageToVideoPipeline", "CogVideoXImageToVideoPipeline")
"""Pipelines that want an image for each prompt, where there are several."""

FIRST_FRAME_ASIDE = ("LTXImageToVideoPipeline",)
"""Pipelines whose scheduler is given all frames but the first, which stays what the image is."""


def gives_frames(pipe: Any) -> bool:
    """Whether it is a pipeline whose call gives videos."""
    if not has_scheduler(pipe):
        return False
    accepted = inspect.signature(type(pipe).__call__).parameters
    return any(name in accepted for name in SAYS_FRAMES)


class VideoSampler(PipelineSampler):
    """A sampler whose images are strips: frames of a video side by side, (batch, 3, height, frames * width).

    Args:
        pipe: a pipeline whose call gives ``frames``.
        prompt: what to show.
        frames: which of them: a number, spread evenly from the first to the last, or ``first``, ``middle``, ``last``;
            by default 4, or as many as the video has.
        settings: as :class:`~.PipelineSampler` takes them.

    Attributes:
        frames_shown: how many stand side by side.
        frame_rate: frames a second.

    Raises:
        ValueError: in one line, also on more frames than a video has.
    """

    def __init__(self, pipe: Any, prompt: str | None = None, *, frames: Choice | None = None, **settings: Any) -> None:
        given = {**(settings.get("pipe_kwargs") or {}), **settings}
        total = _length(pipe, given)
        choice = min(KEY_FRAMES, total) if frames is None else check_choice(frames)
        if count_of(choice) > total:
            raise ValueError(f"expected at most {total} frames, which is what the video has, got {choice}")
        self.frames_shown = count_of(choice)
        self.frame_rate = _rate(pipe, given)
        self._choice = choice
        self._films: list[Tensor] = []
        settings["entered"] = _entered(pipe, choice)
        super().__init__(pipe, prompt, **settings)
        if not can_encode():
            self.warnings.append(MISSING)

    @property
    def description(self) -> dict[str, Any]:
        found = super().description
        found["frames"] = self._choice
        return found

    def decode(self, x: Tensor, origins: Sequence[int | None] | None = None) -> Tensor:
        films = self.pipe.__dict__.get("films")
        if films is not None:  # a row of those that are decoded one by one
            return super().decode(x, origins)
        self._films = []
        object.__setattr__(self.pipe, "films", self._films if can_encode() else [])
        try:
            return super().decode(x, origins)
        finally:
            self.pipe.__dict__.pop("films", None)

    def take_film(self) -> Tensor | None:
        """All frames of what was decoded last, (batch, frames, 3, height, width) uint8; None where it was taken."""
        films, self._films = self._films, []
        return torch.cat(films) if films else None


def video(pipe: Any, prompt: str | None, *, frames: Choice | None = None, **settings: Any) -> PipelineSampler:
    """The :class:`VideoSampler` of a pipeline; the other settings are those of :func:`~.plain.plain`."""

    def made(pipe: Any, prompt: str | None, **rest: Any) -> VideoSampler:
        return VideoSampler(pipe, prompt, frames=frames, **rest)

    return plain(pipe, prompt, **{**settings, "made": made})


def _signature() -> inspect.Signature:
    own = inspect.signature(plain)
    frames = inspect.Parameter("frames", inspect.Parameter.KEYWORD_ONLY, default=None)
    return own.replace(parameters=[*own.parameters.values(), frames])


video.__signature__ = _signature()  # type: ignore[attr-defined] # what may be set beside a pipeline is read from it


# What is known before a call


def _argument(pipe: Any, given: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The first of some arguments of a pipeline's call that is given or has a default."""
    accepted = inspect.signature(type(pipe).__call__).parameters
    for name in (one for one in names if one in accepted):
        value = given.get(name)
        value = accepted[name].default if value is None else value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
    return None


def _length(pipe: Any, given: dict[str, Any]) -> int:
    """How many frames a video has, as far as it is known before one is made."""
    found = _argument(pipe, given, LENGTHS)
    network = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    found = found or (getattr(network, "config", None) or {}).get("sample_frames")
    return max(1, int(found)) if isinstance(found, (int, float)) else KEY_FRAMES


def _rate(pipe: Any, given: dict[str, Any]) -> float:
    found = _argument(pipe, given, RATES)
    own = next((rate for name, rate in FRAME_RATES.items() if type(pipe).__name__.startswith(name)), FRAME_RATE)
    return float(found) if found is not None and found > 0 else own


# The pipeline that is entered


def _entered(pipe: Any, choice: Choice) -> Any:
    """The pipeline of the same components, whose call gives strips as ``images``."""
    found = _made_again(type(pipe), pipe.__dict__)
    object.__setattr__(found, "shown", choice)
    object.__setattr__(found, "scheduler", remembering(pipe.scheduler))
    return found


def _made_again(kind: Any, held: dict[str, Any]) -> Any:
    """An entered pipeline in another process."""
    found = object.__new__(_as_images(kind))
    found.__dict__.update(held)
    return found


@lru_cache(maxsize=64)
def _as_images(kind: Any) -> Any:
    """A class of pipelines but for its call, which takes one prompt for each video and gives strips."""
    call: Any = _giving_strips(kind.__call__)
    plain_call = getattr(kind.__call__, "__wrapped__", None)
    if plain_call is not None:  # without torch.no_grad
        call.__wrapped__ = _giving_strips(plain_call)

    def plain_arguments(self: Any, given: dict[str, Any]) -> dict[str, Any]:
        return _for_each(self, given)

    def shown_as_here(self: Any, pictures: Tensor) -> Tensor:
        return strip(pictures[:, chosen(self.shown, pictures.shape[1])])

    def __reduce__(self: Any) -> Any:
        return _made_again, (kind, {name: one for name, one in self.__dict__.items() if name != "films"})

    own = {"__call__": call, "plain_arguments": plain_arguments, "shown_as_here": shown_as_here}
    own["__reduce__"] = __reduce__
    body = {**own, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**body, "__qualname__": kind.__qualname__})


def _giving_strips(inner: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(inner)
    def __call__(self: Any, *args: Any, **given: Any) -> Any:
        _draw_again(self, given)
        with _all_frames(self):
            output = inner(self, *args, **_for_each(self, given))
        frames = getattr(output, "frames", None)
        if not isinstance(frames, Tensor):
            kind = type(self).__name__
            raise UnsupportedPipeline(f"expected frames as tensors, got {type(frames).__name__} from {kind}")
        if given.get("output_type") == "latent":
            return SimpleNamespace(images=frames)
        if frames.ndim != 5 or frames.shape[2] != 3:
            wanted = "frames (batch, frames, 3, height, width)"
            raise UnsupportedPipeline(f"expected {wanted}, got {tuple(frames.shape)} from {type(self).__name__}")
        films = self.__dict__.get("films")
        if films is not None:
            whole = torch.nan_to_num(frames.detach().float()).clamp(0, 1) * 255
            films.append(whole.round().to("cpu", torch.uint8))
        return SimpleNamespace(images=self.shown_as_here(frames))

    return __call__


def _is(pipe: Any, names: tuple[str, ...]) -> bool:
    return any(kind.__name__ in names for kind in type(pipe).__mro__)


def _for_each(pipe: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call with one of those that belong to a prompt for each of several."""
    prompts = given.get("prompt")
    if not isinstance(prompts, list):
        return given
    found = dict(given)
    if isinstance(found.get("negative_prompt"), str):
        found["negative_prompt"] = [found["negative_prompt"]] * len(prompts)
    image = found.get("image")
    if image is not None and len(prompts) > 1 and _is(pipe, IMAGE_FOR_EACH):
        if isinstance(image, Tensor):
            one = image if image.ndim == 4 else image[None]
            found["image"] = one.expand(len(prompts), *one.shape[1:])
        elif not isinstance(image, list) or len(image) == 1:
            found["image"] = (image if isinstance(image, list) else [image]) * len(prompts)
    return found


def _draw_again(pipe: Any, given: dict[str, Any]) -> None:
    """Take the generators of clean states past their starting noise: decoders with noise of their own go on there."""
    states, generators = given.get("latents"), given.get("generator")
    if given.get("output_type") == "latent" or states is None or not isinstance(generators, list):
        return
    config = getattr(getattr(pipe, "vae", None), "config", None) or {}
    if config.get("timestep_conditioning", False):
        for row, generator in zip(states, generators, strict=True):
            torch.randn(tuple(row.shape), generator=generator, device=generator.device)


@contextmanager
def _all_frames(pipe: Any) -> Iterator[None]:
    """Inside, the scheduler is given whole states, the first frame with them, which no prediction moves."""
    if not _is(pipe, FIRST_FRAME_ASIDE):
        yield
        return
    own, prepare = pipe.scheduler, pipe.prepare_latents
    kind: Any = type(own)
    begun: list[Tensor] = []
    given_back: list[Tensor] = []

    def prepare_latents(*args: Any, **given: Any) -> Any:
        found = prepare(*args, **given)
        begun[:] = [found[0]]  # (batch, tokens, channels)
        return found

    def step(self: Any, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True) -> Any:
        patches = pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size
        size = sample.shape[2] + 1, *sample.shape[3:]  # latent frames, height, width
        first = pipe._unpack_latents(begun[0].to(sample), *size, *patches)[:, :, :1]
        state = pipe._pack_latents(torch.cat([first, sample], 2), *patches)
        if given_back and torch.equal(pipe._unpack_latents(given_back[0], *size, *patches)[:, :, 1:], sample):
            state = given_back[0]  # as it was, whatever was rounded in its first frame
        still = torch.cat([torch.zeros_like(first, dtype=model_output.dtype), model_output], 2)
        after = kind.step(self, pipe._pack_latents(still, *patches), timestep, state, return_dict=False)[0]
        given_back[:] = [after]
        rest = pipe._unpack_latents(after, *size, *patches)[:, :, 1:]
        return SimpleNamespace(prev_sample=rest) if return_dict else (rest,)

    around: Any = object.__new__(type(kind.__name__, (kind,), {"step": step}))
    around.__dict__ = own.__dict__
    mine = pipe.__dict__.get("prepare_latents")
    object.__setattr__(pipe, "scheduler", around)
    object.__setattr__(pipe, "prepare_latents", prepare_latents)
    try:
        yield
    finally:
        object.__setattr__(pipe, "scheduler", own)
        if mine is None:
            pipe.__dict__.pop("prepare_latents", None)
        else:
            object.__setattr__(pipe, "prepare_latents", mine)
