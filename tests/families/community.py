"""A pipeline as people write them: its own loop, which counts its steps and edits the latents after each."""

import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput

import tiny
from families.family import Family
from families.parts import sized


class FadingGuidancePipeline(StableDiffusionPipeline):
    """Stable Diffusion whose guidance fades from step to step, and whose latents are brought nearer to their mean."""

    @torch.no_grad()
    def __call__(
        self, prompt, height=None, width=None, num_inference_steps=50, guidance_scale=7.5, negative_prompt=None,
        num_images_per_prompt=1, generator=None, latents=None, output_type="pil", return_dict=True, pull=0.1,
    ):  # fmt: skip
        side = self.unet.config.sample_size * self.vae_scale_factor
        count = num_images_per_prompt * (1 if isinstance(prompt, str) else len(prompt))
        wanted, free = self.encode_prompt(
            prompt, self._execution_device, num_images_per_prompt, True, negative_prompt=negative_prompt
        )
        texts = torch.cat([free, wanted])
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        latents = self.prepare_latents(
            count, self.unet.config.in_channels, height or side, width or side, texts.dtype, self._execution_device,
            generator, latents,
        )  # fmt: skip
        for i, time in enumerate(self.progress_bar(self.scheduler.timesteps)):
            given = self.scheduler.scale_model_input(torch.cat([latents] * 2), time)
            free, wanted = self.unet(given, time, encoder_hidden_states=texts, return_dict=False)[0].chunk(2)
            strength = guidance_scale * (1 - i / num_inference_steps)
            latents = self.scheduler.step(free + strength * (wanted - free), time, latents, return_dict=False)[0]
            latents = latents - pull * latents.mean(dim=(2, 3), keepdim=True)
        images = latents
        if output_type != "latent":
            images = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
            images = self.image_processor.postprocess(images, output_type=output_type)
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=None)


FAMILY = Family(
    name="community",
    title="A community pipeline (guidance by the step's number, latents edited after each step)",
    classes=("FadingGuidancePipeline",),
    make=lambda: FadingGuidancePipeline(**tiny.sd().components, requires_safety_checker=False),
    call=sized(32),
)
