"""A class-conditional flow-matching transformer in pixel space, and its diffusers pipeline.

The layout is DiT's (Peebles and Xie 2023) trained as SiT is (Ma et al. 2024): the network predicts the velocity
``noise - data`` of the linear path ``x_t = (1 - t) data + t noise``. Beside it: modulations that blocks share, with a
table for each (after PixArt-alpha's adaLN-single, Chen et al. 2023), long skips (U-ViT, Bao et al. 2023), normalised
queries and keys, EDM's preconditioning carried to the linear path, and two convolutions on the pixels at the end.

The class is imported by whoever loads such a model with plain diffusers::

    from noisewright.pipelines.class_flow import ClassConditionalFlowPipeline
    pipe = ClassConditionalFlowPipeline.from_pretrained(directory)
    image = pipe(["cat"], num_inference_steps=25).images[0]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from torch.nn import functional as F

TIMES = 1000
"""The scheduler's time of pure noise; clean images are at 0."""


def preconditioning(t: Tensor, deviation: float) -> tuple[Tensor, Tensor, Tensor]:
    """EDM's scalings (Karras et al. 2022, table 1) on the linear path: ``v = skip x_t + out F(enter x_t)``.

    For data of a standard deviation s: enter = 1/r, skip = (t - (1 - t) s^2)/r^2, out = s/r, with
    r^2 = t^2 + (1 - t)^2 s^2. ``skip x_t`` is the best linear guess of the velocity and ``out`` what is left of its
    deviation, so that the input and the target of F have unit variance at every t. At t = 1 F gives the (scaled) data,
    at t = 0 the noise.

    Args:
        t: in [0, 1], any shape, float32.
        deviation: s.

    Returns:
        enter, skip and out, shaped as ``t``.
    """
    square = t**2 + (1 - t) ** 2 * deviation**2
    root = square.sqrt()
    return 1 / root, (t - (1 - t) * deviation**2) / square, deviation / root


def positions(side: int, width: int) -> Tensor:
    """Sine and cosine of the row, then of the column, (side * side, width)."""
    rates = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * rates  # (side, width / 4)
    one = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = one[:, None].expand(side, side, -1), one[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width)


class Block(nn.Module):
    """Attention and a two-layer network, both modulated (adaLN with gates), behind an optional long skip."""

    def __init__(self, width: int, heads: int, skip: bool) -> None:
        super().__init__()
        self.heads = heads
        self.skip = nn.Linear(2 * width, width) if skip else None
        self.table = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_scale = nn.Parameter(torch.ones(width // heads))
        self.key_scale = nn.Parameter(torch.ones(width // heads))
        self.out = nn.Linear(width, width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, modulation: Tensor, skipped: Tensor | None = None) -> Tensor:
        """One block; x and skipped (batch, tokens, width), modulation (batch, 6, width)."""
        if self.skip is not None and skipped is not None:
            x = self.skip(torch.cat([x, skipped], dim=-1))
        shift, scale, gate, shift2, scale2, gate2 = (modulation + self.table).unsqueeze(2).unbind(1)
        x = torch.addcmul(x, gate, self.attend(torch.addcmul(shift, _normalised(x), 1 + scale)))
        hidden = self.widen(torch.addcmul(shift2, _normalised(x), 1 + scale2))
        return torch.addcmul(x, gate2, self.narrow(F.relu(hidden).square()))

    def attend(self, x: Tensor) -> Tensor:
        """Attention of all tokens to all, with queries and keys of unit mean square."""
        batch, tokens, width = x.shape
        query, key, value = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query = F.rms_norm(query, query.shape[-1:], self.query_scale.to(query.dtype), eps=1e-6)
        key = F.rms_norm(key, key.shape[-1:], self.key_scale.to(key.dtype), eps=1e-6)
        # Written out: on a CPU the backward pass of torch's own takes five times as long for so few tokens.
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, tokens, width))


class ClassFlowTransformer(ModelMixin, ConfigMixin):
    """The network: noisy images, times and classes to velocities.

    Args:
        sample_size: side of the images.
        in_channels: their channels.
        patch_size: pixels of a token's side.
        width: of the tokens.
        depth: blocks; the last ``(depth - 1) // 2`` take a long skip from the first ones.
        heads: of the attention.
        modulations: how many maps from time and class to modulations there are; neighbouring blocks share one.
        num_classes: without the null class of classifier-free guidance, which is number ``num_classes``.
        refine: channels of the convolutions on the pixels.
        deviation: of the data, for the preconditioning.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ("Block",)

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        patch_size: int = 4,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        modulations: int = 3,
        num_classes: int = 10,
        refine: int = 16,
        deviation: float = 0.5,
    ) -> None:
        super().__init__()
        side = sample_size // patch_size
        # Each token sees half a patch beyond its own.
        self.patches = nn.Conv2d(in_channels, width, 2 * patch_size, stride=patch_size, padding=patch_size // 2)
        self.position = nn.Parameter(positions(side, width))
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(num_classes + 1, width)
        self.modulate = nn.ModuleList(nn.Linear(width, 6 * width) for _ in range(modulations))
        skips = (depth - 1) // 2
        self.blocks = nn.ModuleList(Block(width, heads, depth - n <= skips) for n in range(depth))
        self.last_table = nn.Parameter(torch.zeros(2, width))
        self.to_pixels = nn.Linear(width, patch_size**2 * refine)
        self.mix = nn.Conv2d(refine + in_channels, 2 * refine, 3, padding=1)
        self.finish = nn.Conv2d(2 * refine, in_channels, 3, padding=1)
        self._begin()

    def _begin(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.label.weight, std=0.5)
        for closed in (*self.modulate, self.finish):  # every block begins as the identity, the network as zero
            nn.init.zeros_(closed.weight)
            nn.init.zeros_(closed.bias)

    def forward(
        self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool = True
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predicts velocities.

        Args:
            hidden_states: noisy images, (batch, channels, side, side), in the model's dtype.
            timestep: 0 (clean) to 1000 (noise), (batch,) or one for all.
            class_labels: (batch,) integers; ``num_classes`` is the null class.
            return_dict: as in diffusers.

        Returns:
            The velocities, shaped as ``hidden_states``, in ``.sample``.
        """
        t = timestep.to(hidden_states.device, torch.float32).reshape(-1).expand(len(hidden_states)) / TIMES
        enter, skip, out = (one.view(-1, 1, 1, 1) for one in preconditioning(t, self.config.deviation))
        found = self.predict((enter * hidden_states).to(hidden_states.dtype), t, class_labels)
        sample = (skip * hidden_states + out * found).to(hidden_states.dtype)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def predict(self, x: Tensor, t: Tensor, class_labels: Tensor) -> Tensor:
        """F of :func:`preconditioning`: of scaled images (batch, channels, side, side) and t in [0, 1]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        condition = F.silu(self.time(_waves(t).to(x.dtype)) + self.label(class_labels))
        shared = [one(condition).unflatten(1, (6, -1)) for one in self.modulate]
        held: list[Tensor] = []
        for n, block in enumerate(self.blocks):
            modulation = shared[n * len(shared) // len(self.blocks)]
            tokens = block(tokens, modulation, held.pop() if block.skip is not None else None)
            if n < (len(self.blocks) - 1) // 2:
                held.append(tokens)
        shift, scale = (condition.unsqueeze(1) + self.last_table).unsqueeze(2).unbind(1)
        tokens = self.to_pixels(torch.addcmul(shift, _normalised(tokens), 1 + scale))
        size = self.config.patch_size
        side = self.config.sample_size // size
        pixels = F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (side, side)), size)
        return self.finish(F.silu(self.mix(torch.cat([pixels, x.to(pixels.dtype)], dim=1))))


def _normalised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _waves(t: Tensor) -> Tensor:
    """Sines and cosines of t in [0, 1], (batch, 64), from one turn in 6 to 160."""
    angles = t[:, None] * torch.exp(torch.linspace(0, math.log(TIMES), 32, device=t.device))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class ClassConditionalFlowPipeline(DiffusionPipeline):
    """Images of a class, by Euler steps along the predicted velocity.

    Args:
        transformer: the network.
        scheduler: its noise levels and steps.
        id2label: from the numbers of the classes (as text, which JSON asks for) to their names.

    Attributes:
        labels: from names to numbers, as ``DiTPipeline`` has them.
    """

    model_cpu_offload_seq = "transformer"

    def __init__(
        self,
        transformer: ClassFlowTransformer,
        scheduler: FlowMatchEulerDiscreteScheduler,
        id2label: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)
        self.register_to_config(id2label=id2label)
        self.labels = {name: int(number) for number, name in (id2label or {}).items()}
        self.image_processor = VaeImageProcessor(do_resize=False)

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """The numbers of class names.

        Raises:
            ValueError: on a name that is none.
        """
        names = [label] if isinstance(label, str) else list(label)
        for name in names:
            if name not in self.labels:
                raise ValueError(f"expected one of the classes {', '.join(self.labels)}, got {name!r}")
        return [self.labels[name] for name in names]

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[int | str],
        height: int | None = None,
        width: int | None = None,
        guidance_scale: float = 1.5,
        num_inference_steps: int = 25,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Makes one image for each class.

        Args:
            class_labels: numbers or names of classes.
            height: of the images; only the model's own size.
            width: the same.
            guidance_scale: of classifier-free guidance; above 1 it asks the network twice a step.
            num_inference_steps: Euler steps, equally spaced in time.
            generator: of the starting noise.
            latents: the starting noise itself, (batch, channels, height, width): here, noisy pixels in -1..1.
            output_type: ``pil``, ``np``, ``pt``, or ``latent`` for pixels in about -1..1.
            return_dict: as in diffusers.

        Raises:
            ValueError: on an unknown class or another size.
        """
        side = self.transformer.config.sample_size
        if (height or side, width or side) != (side, side):
            raise ValueError(f"expected a height and width of {side}, got {height}x{width}")
        numbers = torch.tensor(self._numbers(class_labels), device=self._execution_device)
        shape = (len(numbers), self.transformer.config.in_channels, side, side)
        device, dtype = self._execution_device, self.transformer.dtype
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        elif tuple(latents.shape) != shape:
            raise ValueError(f"expected latents of shape {shape}, got {tuple(latents.shape)}")
        x = latents.to(device, dtype)
        guided = guidance_scale > 1
        if guided:
            nothing = torch.full_like(numbers, self.transformer.config.num_classes)
            numbers = torch.cat([numbers, nothing])

        self._set_times(num_inference_steps)
        for time in self.progress_bar(self.scheduler.timesteps):
            given = torch.cat([x, x]) if guided else x
            velocity = self.transformer(given, time.expand(len(given)), numbers).sample
            if guided:
                wanted, free = velocity.chunk(2)
                velocity = free + guidance_scale * (wanted - free)
            x = self.scheduler.step(velocity, time, x, return_dict=False)[0]

        images = x if output_type == "latent" else self.image_processor.postprocess(x, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _numbers(self, given: int | str | Sequence[int | str]) -> list[int]:
        many = [given] if isinstance(given, (int, str)) else list(given)
        found = [self.get_label_ids(one)[0] if isinstance(one, str) else int(one) for one in many]
        count = self.transformer.config.num_classes
        for number in found:
            if not 0 <= number < count:
                raise ValueError(f"expected a class number in [0, {count}), got {number}")
        return found

    def _set_times(self, steps: int) -> None:
        device = self._execution_device
        if isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):  # whose own spacing wastes the last step
            self.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist(), device=device)
        else:
            self.scheduler.set_timesteps(steps, device=device)
