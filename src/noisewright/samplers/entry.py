"""How states get into a pipeline's call and out of it again, and what its loop does with them.

Most pipelines take states as ``latents=``, and give them for ``output_type="latent"``. Others pack what they are given
(FLUX.2), compose image and noise themselves (image to image, inpainting), change states between two steps (the mask of
inpainting), or guide differently at different places of the loop. What a pipeline does is read from a call of zero
steps, or, where such a call cannot be made or would not tell, from one walk through its loop with networks asleep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

INNOCENT = (
    "prompt_2", "prompt_3", "prompt_4", "negative_prompt_2", "negative_prompt_3", "negative_prompt_4", "eta",
    "guidance_rescale", "true_cfg_scale", "max_sequence_length", "clip_skip", "timesteps", "sigmas", "original_size",
    "target_size", "crops_coords_top_left", "negative_original_size", "negative_target_size",
    "negative_crops_coords_top_left", "cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs",
    "aesthetic_score", "negative_aesthetic_score", "clean_caption", "use_resolution_binning",
)  # fmt: skip
"""Further arguments of a call whose effect is the same at each step, wherever in the loop that stands."""

WALKED = ("strength", "denoising_start", "denoising_end")
"""Arguments of a call that let its loop take a part of the schedule only."""

CHAINED = ("callback_on_step_end", "callback")
"""Functions of the person's that a pipeline calls after each step, which may change its state."""

OURS = ("diffusers.", "noisewright.")
"""Packages whose pipelines are known by the names of their classes."""

PLACE_FREE = (
    "StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline",
    "ChromaPipeline", "PixArtAlphaPipeline", "PixArtSigmaPipeline", "SanaPipeline", "AuraFlowPipeline",
    "QwenImagePipeline", "CogView4Pipeline", "HunyuanDiTPipeline", "DiTPipeline", "LatentDiTPipeline",
    "ClassConditionalFlowPipeline", "WanPipeline", "LTXPipeline", "CogVideoXPipeline",
)  # fmt: skip
"""Pipelines whose loops do not look at a step's place where no argument makes them (``tests/families``): a segment can
be a loop of its own, which is a little cheaper."""


@dataclass(frozen=True)
class Entry:
    """How states get into a pipeline's call and out of it.

    Attributes:
        by: ``latents``: as that argument; ``prepared``: in place of what ``prepare_latents`` gives; ``drawn``: in place
            of the unit noise that is drawn inside, of which the pipeline composes the first state with its image: what
            stands at index 0 is that noise.
        whole: whether a segment is run inside a loop of full length, with the networks asleep outside of it.
        zero: whether the call can be made with no step to take.
        edits: whether the pipeline changes states between two steps, or after the last.
        draws: whether a call draws more than the starting noise: then each image's own generator is needed.
        alone: whether each image is made in a call of its own, since in a batch one's random numbers depend on others.
        dtype: of the states in the loop; None where nothing tells: the pipeline's.
        scale: what states are multiplied with on the way from where they enter to the first step.
        place: which draw of a generator is the starting noise.
    """

    by: Literal["latents", "prepared", "drawn"] = "latents"
    whole: bool = False
    zero: bool = True
    edits: bool = False
    draws: bool = False
    alone: bool = False
    dtype: torch.dtype | None = None
    scale: float = 1.0
    place: int = 0

    def rounds(self, dtype: torch.dtype) -> bool:
        """Whether the loop of a pipeline of a precision keeps its states in less than float32."""
        return min(torch.finfo(one).bits for one in (self.dtype or dtype, dtype)) < 32  # steps are in the network's

    @property
    def composes(self) -> bool:
        """Whether the pipeline makes its first state itself, of the unit noise and what else it was given."""
        return self.by == "drawn"


@dataclass
class Walk:
    """What a loop did, with networks that were asked in its first step and then slept.

    Attributes:
        times: that it visited.
        states: what each step was given.
        begun: what ``prepare_latents`` gave first; None where it was not called.
        latents: what the call gave for ``output_type="latent"``.
        drawn: the place of the first generator's last draw of the starting noise; None where it drew none.
        alike: whether all generators drew as often.
        draws: whether they drew more than the starting noise.
    """

    times: list[float] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    begun: Tensor | None = None
    latents: Tensor | None = None
    drawn: int | None = None
    alike: bool = True
    draws: bool = False

    @property
    def edits(self) -> bool:
        """Whether what a step was given is not what the one before had given back."""
        return any(one is not self.states[0] and not torch.equal(one, self.states[0]) for one in self._later())

    def _later(self) -> Sequence[Tensor]:
        ends = [self.latents] if self.latents is not None and self.latents.shape == self.states[0].shape else []
        if ends and self._stretched(ends[0]):  # not the state, but what is decoded of it
            ends = []
        return [*self.states[1:], *ends]

    def _stretched(self, end: Tensor) -> bool:
        """Whether the call's latents are the last state times a number."""
        return ratio_of(end, self.states[-1]) not in (None, 1.0)


def ratio_of(one: Tensor, other: Tensor) -> float | None:
    """The number that ``other`` is multiplied with to give ``one``; None where there is none."""
    if one.shape != other.shape:
        return None
    a, b = one.detach().double().cpu().flatten(), other.detach().double().cpu().flatten()
    if torch.equal(a, b):
        return 1.0
    square = float(b @ b)
    ratio = float(a @ b) / square if square else 0.0
    close = bool(ratio) and float((a - ratio * b).abs().max()) <= 1e-2 * float(a.abs().max())
    return float(torch.tensor(ratio, dtype=torch.float32)) if close else None


def keeps_place(kind: type, explicit: Sequence[str]) -> bool:
    """Whether a step of a pipeline's loop may depend on where it stands in it."""
    known = kind.__module__.startswith(OURS) and kind.__name__ in PLACE_FREE
    return not known or any(name not in INNOCENT for name in explicit)


def must_walk(accepted: Sequence[str], settings: dict[str, Any], kind: type) -> bool:
    """Whether only a walk tells what a pipeline's loop does."""
    if "strength" in accepted or "latents" not in accepted:
        return True
    foreign = not kind.__module__.startswith(OURS)
    return foreign or any(settings.get(name) is not None for name in (*WALKED, *CHAINED))
