"""Unconditional pipelines with what a search needs of a call: latents in, latents out.

diffusers' own calls draw their noise themselves and always decode. Each class here has the same components and makes
the same images; its call also takes ``latents``, gives them for ``output_type="latent"``, and looks at no prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from inspect import signature
from typing import Any, TypeAlias

import torch
from diffusers import ConsistencyModelPipeline, DDIMPipeline, DDPMPipeline, DiffusionPipeline, LDMPipeline, PNDMPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from noisewright.samplers.adapters.plain import plain
from noisewright.samplers.pipeline import PipelineSampler

Generators: TypeAlias = torch.Generator | list[torch.Generator] | None


def _loop(
    pipe: Any, latents: Tensor | None, count: int, steps: int, generator: Generators, *, dtype: torch.dtype | None,
    scaled: bool, given: Mapping[str, Any],
) -> Tensor:  # fmt: skip
    """The states after the steps, (batch, ...).

    Args:
        pipe: with ``unet`` and ``scheduler``.
        latents: the starting noise, or None to draw it.
        count: how many images, where there are no latents.
        steps: the scheduler's.
        generator: of the starting noise.
        dtype: of the starting noise, by default float32, which is then drawn on the CPU.
        scaled: whether the pipeline asks its scheduler how to scale the noise and the network's input.
        given: further arguments of the scheduler's step.
    """
    config, device, scheduler = pipe.unet.config, pipe._execution_device, pipe.scheduler
    if latents is None:
        side = config.sample_size
        shape = (count, config.in_channels, *((side, side) if isinstance(side, int) else side))
        where = torch.device("cpu") if dtype is None or device.type == "mps" else device
        latents = randn_tensor(shape, generator=generator, device=where, dtype=dtype)
    x = latents.to(device)
    if scaled:
        x = x * scheduler.init_noise_sigma
    scheduler.set_timesteps(steps)
    for time in pipe.progress_bar(scheduler.timesteps):
        shown = scheduler.scale_model_input(x, time) if scaled else x
        found = pipe.unet(shown, time).sample
        x = scheduler.step(found, time, x, return_dict=False, **given)[0]
    return x


def _finished(pipe: Any, images: Tensor, output_type: str | None, return_dict: bool) -> Any:
    """Images in [-1, 1], (batch, 3, height, width), as a call gives them."""
    found: Any = (images / 2 + 0.5).clamp(0, 1)
    if output_type != "pt":
        found = found.cpu().permute(0, 2, 3, 1).float().numpy()
        found = pipe.numpy_to_pil(found) if output_type == "pil" else found
    pipe.maybe_free_model_hooks()
    return _output(found, return_dict)


def _output(images: Any, return_dict: bool) -> Any:
    return ImagePipelineOutput(images=images) if return_dict else (images,)


class LatentDDPMPipeline(DDPMPipeline):
    """``DDPMPipeline`` (Ho et al. 2020) called with latents."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        num_inference_steps: int = 1000,
        latents: Tensor | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
    ) -> Any:
        """As ``DDPMPipeline``'s call.

        Args:
            prompt: not looked at.
            num_images_per_prompt: how many images.
            generator: of the starting noise and of the steps.
            num_inference_steps: the scheduler's.
            latents: the starting noise, (batch, channels, height, width).
            output_type: ``pil``, ``np``, ``pt`` or ``latent``.
            return_dict: as in diffusers.
        """
        given = self.prepare_extra_step_kwargs(generator)
        x = _loop(
            self, latents, num_images_per_prompt, num_inference_steps, generator,
            dtype=self.unet.dtype, scaled=False, given=given,
        )  # fmt: skip
        return _output(x, return_dict) if output_type == "latent" else _finished(self, x, output_type, return_dict)

    def prepare_extra_step_kwargs(self, generator: Generators) -> dict[str, Any]:
        """What ``scheduler.step`` gets beside prediction, time and sample."""
        return {"generator": generator}


class LatentDDIMPipeline(DDIMPipeline):
    """``DDIMPipeline`` (Song et al. 2021) called with latents."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        eta: float = 0.0,
        num_inference_steps: int = 50,
        use_clipped_model_output: bool | None = None,
        latents: Tensor | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
    ) -> Any:
        """As ``DDIMPipeline``'s call.

        Args:
            prompt: not looked at.
            num_images_per_prompt: how many images.
            generator: of the starting noise and of the steps.
            eta: of DDIM.
            num_inference_steps: the scheduler's.
            use_clipped_model_output: of ``DDIMScheduler.step``.
            latents: the starting noise, (batch, channels, height, width).
            output_type: ``pil``, ``np``, ``pt`` or ``latent``.
            return_dict: as in diffusers.
        """
        given = self.prepare_extra_step_kwargs(generator, eta, use_clipped_model_output)
        x = _loop(
            self, latents, num_images_per_prompt, num_inference_steps, generator,
            dtype=self.unet.dtype, scaled=False, given=given,
        )  # fmt: skip
        return _output(x, return_dict) if output_type == "latent" else _finished(self, x, output_type, return_dict)

    def prepare_extra_step_kwargs(self, generator: Generators, eta: float, clipped: bool | None) -> dict[str, Any]:
        """What ``scheduler.step`` gets beside prediction, time and sample."""
        return {"generator": generator, "eta": eta, "use_clipped_model_output": bool(clipped)}


class LatentPNDMPipeline(PNDMPipeline):
    """``PNDMPipeline`` (Liu et al. 2022) called with latents."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        num_inference_steps: int = 50,
        latents: Tensor | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
    ) -> Any:
        """As ``PNDMPipeline``'s call; the arguments are those of :class:`LatentDDPMPipeline`'s."""
        x = _loop(
            self, latents, num_images_per_prompt, num_inference_steps, generator,
            dtype=torch.float32, scaled=False, given={},
        )  # fmt: skip
        return _output(x, return_dict) if output_type == "latent" else _finished(self, x, output_type, return_dict)


class LatentLDMPipeline(LDMPipeline):
    """The unconditional ``LDMPipeline`` (Rombach et al. 2022) called with latents."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        eta: float = 0.0,
        num_inference_steps: int = 50,
        latents: Tensor | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
    ) -> Any:
        """As ``LDMPipeline``'s call, which gives its steps no generator.

        The arguments are those of :class:`LatentDDIMPipeline`'s.
        """
        given = self.prepare_extra_step_kwargs(generator, eta)
        x = _loop(
            self, latents, num_images_per_prompt, num_inference_steps, generator, dtype=None, scaled=True, given=given
        )
        if output_type == "latent":
            return _output(x, return_dict)
        images = self.vqvae.decode(x / self.vqvae.config.scaling_factor).sample
        return _finished(self, images, output_type, return_dict)

    def prepare_extra_step_kwargs(self, generator: Generators, eta: float) -> dict[str, Any]:
        """What ``scheduler.step`` gets beside prediction, time and sample."""
        return {"eta": eta} if "eta" in signature(self.scheduler.step).parameters else {}


class LatentConsistencyModelPipeline(ConsistencyModelPipeline):
    """``ConsistencyModelPipeline`` (Song et al. 2023), which takes latents already, gives them too."""

    def __call__(
        self,
        prompt: str | None = None,
        num_images_per_prompt: int = 1,
        class_labels: list[int] | None = None,
        generator: Generators = None,
        num_inference_steps: int = 1,
        timesteps: list[int] | None = None,
        latents: Tensor | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
    ) -> Any:
        """As ``ConsistencyModelPipeline``'s call.

        Args:
            prompt: not looked at.
            num_images_per_prompt: how many images, where no classes say it.
            class_labels: numbers of classes, one for each image, of a class-conditional model.
            generator: of the starting noise and of the steps.
            num_inference_steps: the scheduler's.
            timesteps: in place of the number of steps.
            latents: the starting noise, (batch, channels, side, side).
            output_type: ``pil``, ``np``, ``pt`` or ``latent``.
            return_dict: as in diffusers.
        """
        return super().__call__(
            batch_size=num_images_per_prompt if class_labels is None else len(class_labels), class_labels=class_labels,
            num_inference_steps=num_inference_steps, timesteps=timesteps, generator=generator, latents=latents,
            output_type=output_type, return_dict=return_dict,
        )  # fmt: skip

    def postprocess_image(self, sample: Tensor, output_type: str = "pil") -> Any:
        """As in diffusers; ``latent`` leaves the states as they are."""
        return sample if output_type == "latent" else super().postprocess_image(sample, output_type)


ENTERED: dict[type, type] = {
    DDPMPipeline: LatentDDPMPipeline,
    DDIMPipeline: LatentDDIMPipeline,
    PNDMPipeline: LatentPNDMPipeline,
    LDMPipeline: LatentLDMPipeline,
    ConsistencyModelPipeline: LatentConsistencyModelPipeline,
}
"""What is called in place of which pipeline."""


def entered_by(pipe: DiffusionPipeline) -> Any:
    """The pipeline of the same components, with its scheduler object, that is called in place of one.

    Their constructors make schedulers of their own kinds again, which the pipeline's may have been replaced by since.
    """
    kind = next(ENTERED[one] for one in type(pipe).__mro__ if one in ENTERED)
    made = kind(**pipe.components)
    made.scheduler = pipe.scheduler
    return made


@wraps(plain, assigned=())
def unconditional(pipe: Any, prompt: str | None, **settings: Any) -> PipelineSampler:
    """The sampler of such a pipeline; the settings are those of :func:`~.plain.plain`."""
    return plain(pipe, prompt, entered=entered_by(pipe), **settings)
