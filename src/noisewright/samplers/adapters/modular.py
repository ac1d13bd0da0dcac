"""Modular pipelines of diffusers: blocks and a state in place of a call, called here as the classic pipelines are.

Nothing of a pipeline's blocks is copied: for latents all run but the last one, which decodes.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import wraps
from inspect import Parameter, Signature
from typing import Any, Protocol, runtime_checkable

from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from noisewright.errors import UnsupportedPipeline
from noisewright.samplers.adapters.plain import plain
from noisewright.samplers.arguments import blocks_parameters
from noisewright.samplers.pipeline import PipelineSampler

DECODE = "decode"
"""What diffusers calls the last block of its pipelines."""

OF_IMAGE_TO_IMAGE = ("strength", "denoising_start")
"""What blocks for several kinds of call take of which only some begin with an image."""


@runtime_checkable
class HasBars(Protocol):
    """A block with a loop, which shows a progress bar."""

    def plain_arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """What the modular pipeline itself is called with for the same images."""
        return {**given, "output": "images"}

    def set_progress_bar_config(self, **config: Any) -> None: ...


class ClassicCall:
    """A modular pipeline as an object that is called with prompt, latents and the like.

    What it does not have itself is the modular pipeline's, whose scheduler is replaced while it is called.

    Args:
        pipe: the modular pipeline, with its components.
        blocks: the pipeline's, and those without the last one.
    """

    def __init__(self, pipe: Any, blocks: tuple[Any, Any]) -> None:
        vars(self).update(wrapped=pipe, scheduler=pipe.scheduler, _whole=blocks[0], _undecoded=blocks[1])

    def __getattr__(self, name: str) -> Any:
        if name in ("wrapped", "scheduler") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    @property
    def blocks(self) -> Any:
        return self.wrapped.blocks

    @property
    def default_call_parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = self.wrapped.default_call_parameters
        return found

    def set_progress_bar_config(self, **config: Any) -> None:
        """Of the blocks that are called here; those of the modular pipeline stay as they are."""
        for blocks in (self._whole, self._undecoded):
            _tell_bars(blocks, config)

    def run(self, given: dict[str, Any]) -> Any:
        """The images or latents of the arguments of a call."""
        latent = given.get("output_type") == "latent"
        if latent:
            given = {name: one for name, one in given.items() if name != "output_type"}
        pipe, scheduler, blocks = self.wrapped, self.wrapped.scheduler, self.wrapped._blocks
        object.__setattr__(pipe, "scheduler", self.scheduler)
        object.__setattr__(pipe, "_blocks", self._undecoded if latent else self._whole)
        try:
            found = pipe(**given, output="latents" if latent else "images")
        finally:
            object.__setattr__(pipe, "scheduler", scheduler)
            object.__setattr__(pipe, "_blocks", blocks)
        return ImagePipelineOutput(images=found)


def _tell_bars(blocks: Any, config: dict[str, Any]) -> None:
    """Configure the progress bars of blocks, at every depth."""
    if isinstance(blocks, HasBars):
        blocks.set_progress_bar_config(**config)
    for one in getattr(blocks, "sub_blocks", {}).values():
        _tell_bars(one, config)


def called(pipe: Any, given: Collection[str] = ()) -> Any:
    """The object that is called in place of a modular pipeline.

    Args:
        pipe: the modular pipeline.
        given: names of arguments of the call; those of other kinds of call are not among what it takes without them.

    Raises:
        UnsupportedPipeline: in one line, where its last block does not decode, or its guidance depends on the place in
            the loop.
    """
    kind, blocks = type(pipe).__name__, pipe.blocks
    names = list(getattr(blocks, "sub_blocks", {}))
    if not names or names[-1] != DECODE:
        raise UnsupportedPipeline(
            f"expected blocks of {kind} of which the last is {DECODE!r}, got {', '.join(names) or 'none'}: use the "
            f"classic {kind.replace('Modular', '')} where diffusers has it"
        )
    guider = getattr(pipe, "guider", None)
    if guider is not None and (getattr(guider, "_start", 0) != 0 or getattr(guider, "_stop", 1) != 1):
        raise UnsupportedPipeline(
            f"expected a guider of {kind} that guides every step, got {type(guider).__name__} from {guider._start:g} "
            f"to {guider._stop:g} of them"
        )
    undecoded = pipe.blocks
    del undecoded.sub_blocks[DECODE]

    def __call__(self: ClassicCall, **given: Any) -> Any:
        return self.run(given)

    own = [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)]
    taken = [one for one in blocks_parameters(pipe) if one.name in given or one.name not in OF_IMAGE_TO_IMAGE]
    __call__.__signature__ = Signature([*own, *taken])  # type: ignore[attr-defined]
    made = type(kind, (ClassicCall,), {"__call__": __call__, "__module__": type(pipe).__module__})
    return made(pipe, (blocks, undecoded))


@wraps(plain, assigned=())
def modular(pipe: Any, prompt: str | None, **settings: Any) -> PipelineSampler:
    """The sampler of a modular pipeline; the settings are those of :func:`~.plain.plain`."""
    given = list(settings.get("pipe_kwargs") or ())
    given += OF_IMAGE_TO_IMAGE if "image" in given else ()
    return plain(pipe, prompt, entered=called(pipe, given), **settings)
