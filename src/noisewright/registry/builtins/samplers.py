"""The samplers that come with noisewright: what is made of which pipeline. The first that takes a pipeline makes it."""

from __future__ import annotations

from noisewright.registry.kinds import Entry

SAMPLERS = [
    Entry(
        "sampler", "given", "a sampler that was made already, as it is",
        "noisewright.samplers.adapters.given:given",
        takes=("noisewright.samplers.adapters.given:is_sampler",),
    ),
    Entry(
        "sampler", "remote", "a server of images that speaks OpenAI's API: whole images by seed",
        "noisewright.samplers.remote:remote", takes=("ImageServer",),
    ),
    Entry(
        "sampler", "dit", "DiT's pipeline, called with latents by a pipeline of the same components",
        "noisewright.samplers.adapters.dit:dit",
        {"reference": "Peebles and Xie 2023"}, takes=("DiTPipeline",),
    ),
    Entry(
        "sampler", "unconditional", "pipelines without a prompt, called with latents by one of the same components",
        "noisewright.samplers.adapters.unconditional:unconditional",
        {"reference": "Ho et al. 2020, Song et al. 2021, 2023, Liu et al. 2022, Rombach et al. 2022"},
        takes=("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "LDMPipeline", "ConsistencyModelPipeline"),
    ),
    Entry(
        "sampler", "ldm-text", "latent diffusion's pipeline for texts, called with latents by one of its components",
        "noisewright.samplers.adapters.ldm_text:ldm_text",
        {"reference": "Rombach et al. 2022"}, takes=("LDMTextToImagePipeline",),
    ),
    Entry(
        "sampler", "modular", "modular pipelines of diffusers, called as the classic ones are",
        "noisewright.samplers.adapters.modular:modular", takes=("ModularPipeline",),
    ),
    Entry(
        "sampler", "video", "pipelines that give videos: key frames side by side, which verifiers see one by one",
        "noisewright.samplers.adapters.video:video",
        takes=("noisewright.samplers.adapters.video:gives_frames",),
    ),
    Entry(
        "sampler", "diffusers", "any pipeline of diffusers, entered through its scheduler",
        "noisewright.samplers.adapters.plain:plain",
        takes=("noisewright.samplers.adapters.plain:has_scheduler",),
    ),
]  # fmt: skip
