"""Tiny real pipelines with a loop of their own, each of which does one thing that a search cannot see from outside."""

from __future__ import annotations

from functools import wraps

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.pipeline_output import StableDiffusionPipelineOutput

import tiny


class OwnLoop(StableDiffusionPipeline):
    """Stable Diffusion in thirty lines; those below change what its loop does."""

    @torch.no_grad()
    def __call__(
        self, prompt=None, num_inference_steps=50, guidance_scale=3.0, generator=None, latents=None, output_type="pil",
        num_images_per_prompt=1, return_dict=True,
    ):  # fmt: skip
        count = num_images_per_prompt
        texts, free = self.encode_prompt(prompt, self.device, count, True)
        texts = torch.cat([free, texts])
        self.scheduler.set_timesteps(num_inference_steps)
        side = self.unet.config.sample_size * self.vae_scale_factor
        x = self.begun(self.prepare_latents(count, 4, side, side, self.unet.dtype, self.device, generator, latents))
        for i, time in enumerate(self.progress_bar(self.scheduler.timesteps)):
            given = self.scheduler.scale_model_input(torch.cat([x, x]), time)
            free, wanted = self.unet(given, time, encoder_hidden_states=texts).sample.chunk(2)
            found = self.guided(i, free + guidance_scale * (wanted - free), generator)
            x = self.stepped(i, self.scheduler.step(found, time, x, return_dict=False)[0])
        images = x if output_type == "latent" else self.vae.decode(x / self.vae.config.scaling_factor).sample
        if output_type != "latent":
            images = self.image_processor.postprocess(images, output_type=output_type)
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=None)

    def begun(self, prepared):
        return prepared

    def guided(self, i, found, generator):
        return found

    def stepped(self, i, x):
        return x


class UsesThePlace(OwnLoop):
    def guided(self, i, found, generator):
        return found * (1 + 0.3 * i)


class Remembers(OwnLoop):
    """Momentum that lies in the pipeline, and begins anew with each call."""

    def guided(self, i, found, generator):
        self.last = found if i == 0 else 0.4 * found + 0.6 * self.last
        return self.last


class EditsStates(OwnLoop):
    def stepped(self, i, x):
        return 0.8 * x


class Averages(OwnLoop):
    """A mean over the states, which shows where they change, and lies in the pipeline."""

    def stepped(self, i, x):
        self.mean = x if i == 0 else 0.5 * self.mean + 0.5 * x
        return x + 0.3 * (self.mean - x)


class PreparesADictionary(OwnLoop):
    def prepare_latents(self, *args):
        return {"ids": torch.arange(3), "latents": super().prepare_latents(*args)}

    def begun(self, prepared):
        return prepared["latents"]


class CountsOtherwise(DDIMScheduler):
    """A scheduler of a person's own, whose number of steps has another name, and which knows no device."""

    def set_timesteps(self, count):
        super().set_timesteps(count)


class StepsOtherwise(DDIMScheduler):
    """A scheduler whose step calls its arguments otherwise."""

    def step(self, found, time, x, return_dict=True):
        return super().step(found, time, x, return_dict=return_dict)


class DrawsGlobally(OwnLoop):
    def guided(self, i, found, generator):
        return found + torch.randn_like(found)


class LeaksInTheBatch(OwnLoop):
    def guided(self, i, found, generator):
        return 0.5 * found + 0.5 * found.mean(0, keepdim=True)


class Fails(OwnLoop):
    def guided(self, i, found, generator):
        raise LookupError("the moon\nis full")


class Forgets(OwnLoop):
    """Two plain calls with one seed give two images."""

    calls = 0

    def guided(self, i, found, generator):
        if i == 0:
            self.calls += 1
        return found * (1 + 0.2 * self.calls)


class Blind(OwnLoop):
    """Its image does not depend on the noise."""

    def stepped(self, i, x):
        return torch.ones_like(x)

    def guided(self, i, found, generator):
        return torch.zeros_like(found)


DDIM_STEP = DDIMScheduler.step


@wraps(DDIM_STEP)
def other_step(self, model_output, *args, **kwargs):
    """What a test makes of ``DDIMScheduler.step``, so that it is no longer what our solver takes it for."""
    after = DDIM_STEP(self, model_output, *args, **kwargs)
    if isinstance(after, tuple):
        return (0.9 * after[0], *after[1:])
    after.prev_sample = 0.9 * after.prev_sample
    return after


def made(kind, scheduler=None, seed=0):
    """A pipeline of one of the classes above, without a progress bar."""
    found = kind(**tiny.sd(scheduler, seed).components, requires_safety_checker=False)
    found.set_progress_bar_config(disable=True)
    return found

