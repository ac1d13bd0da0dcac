"""``DiTPipeline`` (Peebles and Xie 2023) with what a search needs of a call: latents in, latents out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

import torch
from diffusers import DiTPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from noisewright.samplers.adapters.plain import plain
from noisewright.samplers.pipeline import PipelineSampler


class LatentDiTPipeline(DiTPipeline):
    """The same components and images; the call also takes ``latents`` and gives them for ``output_type="latent"``.

    diffusers' own call draws its noise itself, always decodes, and hands ``scheduler.step`` each sample twice under
    guidance. Here the scheduler gets one guided prediction for each image, which comes to the same numbers.
    """

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Sequence[int],
        guidance_scale: float = 4.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int = 50,
        latents: Tensor | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """As ``DiTPipeline``'s call.

        Args:
            class_labels: numbers of classes, one for each image.
            guidance_scale: of classifier-free guidance, which is on above 1.
            generator: of the starting noise.
            num_inference_steps: the scheduler's.
            latents: the starting noise, (batch, channels, side, side).
            output_type: ``pil``, ``np``, ``pt`` or ``latent``.
            return_dict: as in diffusers.
        """
        config, device = self.transformer.config, self._execution_device
        channels, side = config.in_channels, config.sample_size
        classes = torch.as_tensor(list(class_labels), device=device)
        guided = guidance_scale > 1
        if guided:
            classes = torch.cat([classes, torch.full_like(classes, config.num_embeds_ada_norm)])
        if latents is None:
            shape = (len(class_labels), channels, side, side)
            latents = randn_tensor(shape, generator=generator, device=device, dtype=self.transformer.dtype)
        self.scheduler.set_timesteps(num_inference_steps)
        x = latents.to(device, self.transformer.dtype) * self.scheduler.init_noise_sigma
        for time in self.progress_bar(self.scheduler.timesteps):
            given = self.scheduler.scale_model_input(torch.cat([x, x]) if guided else x, time)
            times = torch.as_tensor(time, device=device).expand(len(given))
            found = self.transformer(given, timestep=times, class_labels=classes).sample[:, :channels]  # no variances
            if guided:
                wanted, free = found.chunk(2)
                found = free + guidance_scale * (wanted - free)
            x = self.scheduler.step(found, time, x, return_dict=False)[0]

        images = x
        if output_type != "latent":
            images = self.vae.decode(1 / self.vae.config.scaling_factor * x).sample
            images = VaeImageProcessor().postprocess(images, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)


@wraps(plain, assigned=())
def dit(pipe: Any, prompt: str | None, **settings: Any) -> PipelineSampler:
    """The sampler of a ``DiTPipeline``; the settings are those of :func:`~.plain.plain`."""
    return plain(pipe, prompt, entered=LatentDiTPipeline(**pipe.components), **settings)
