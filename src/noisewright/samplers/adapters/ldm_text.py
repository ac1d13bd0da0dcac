"""``LDMTextToImagePipeline`` (Rombach et al. 2022), which takes latents and always decodes, with latents out too."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import Any

import torch
from diffusers import LDMTextToImagePipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from noisewright.samplers.adapters.plain import plain
from noisewright.samplers.pipeline import PipelineSampler

LONGEST = 77
"""Tokens of a text, which is padded to them."""

FACTOR = 8
"""Pixels of a side for one latent, whatever the decoder's own factor is."""


class LatentLDMTextToImagePipeline(LDMTextToImagePipeline):
    """The same components and images; the call also gives latents for ``output_type="latent"``."""

    def encode_prompt(self, prompt: str, num_images_per_prompt: int) -> Tensor:
        """The states of a text, (images, tokens, width)."""
        tokens = self.tokenizer(
            [prompt], padding="max_length", max_length=LONGEST, truncation=True, return_tensors="pt"
        ).input_ids
        found: Tensor = self.bert(tokens.to(self._execution_device))[0]
        return found.repeat_interleave(num_images_per_prompt, dim=0)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
        eta: float = 0.0,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
    ) -> Any:
        """As ``LDMTextToImagePipeline``'s call.

        Args:
            prompt: one text.
            height, width: pixels, divisible by 8; by default the model's.
            num_inference_steps: the scheduler's.
            guidance_scale: of classifier-free guidance, which is off at 1.
            eta: of DDIM.
            num_images_per_prompt: how many images.
            generator: of the starting noise.
            latents: the starting noise, (batch, channels, height, width).
            output_type: ``pil``, ``np``, ``pt`` or ``latent``.
            return_dict: as in diffusers.

        Raises:
            ValueError: on another size.
        """
        side = self.unet.config.sample_size * self.vae_scale_factor
        height, width = height or side, width or side
        if height % FACTOR or width % FACTOR:
            raise ValueError(f"expected height and width divisible by {FACTOR}, got {height} x {width}")
        guided = guidance_scale != 1.0
        states = self.encode_prompt(prompt, num_images_per_prompt)
        context = torch.cat([self.encode_prompt("", num_images_per_prompt), states]) if guided else states
        if latents is None:
            shape = (num_images_per_prompt, self.unet.config.in_channels, height // FACTOR, width // FACTOR)
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=states.dtype)
        x = latents.to(self._execution_device)
        self.scheduler.set_timesteps(num_inference_steps)
        given = self.prepare_extra_step_kwargs(eta)
        for time in self.progress_bar(self.scheduler.timesteps):
            found = self.unet(torch.cat([x, x]) if guided else x, time, encoder_hidden_states=context).sample
            if guided:
                free, wanted = found.chunk(2)
                found = free + guidance_scale * (wanted - free)
            x = self.scheduler.step(found, time, x, return_dict=False, **given)[0]

        images: Any = x
        if output_type != "latent":
            images = self.vqvae.decode(1 / self.vqvae.config.scaling_factor * x).sample
            images = (images / 2 + 0.5).clamp(0, 1)
            if output_type != "pt":
                images = images.cpu().permute(0, 2, 3, 1).float().numpy()
                images = self.numpy_to_pil(images) if output_type == "pil" else images
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def prepare_extra_step_kwargs(self, eta: float) -> dict[str, Any]:
        """What ``scheduler.step`` gets beside prediction, time and sample."""
        return {"eta": eta} if "eta" in inspect.signature(self.scheduler.step).parameters else {}


@wraps(plain, assigned=())
def ldm_text(pipe: Any, prompt: str | None, **settings: Any) -> PipelineSampler:
    """The sampler of an ``LDMTextToImagePipeline``; the settings are those of :func:`~.plain.plain`."""
    return plain(pipe, prompt, entered=LatentLDMTextToImagePipeline(**pipe.components), **settings)
