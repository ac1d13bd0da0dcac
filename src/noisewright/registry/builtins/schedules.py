"""The named rules of noise levels that come with noisewright."""

from __future__ import annotations

from noisewright.registry.kinds import Entry

SCHEDULES = [
    Entry("schedule", "pipeline", "the pipeline's own noise levels"),
    Entry(
        "schedule", "uniform", "even in the network's time", "noisewright.diffusion.schedules:uniform",
    ),
    Entry(
        "schedule", "quadratic", "even in the root of the time", "noisewright.diffusion.schedules:quadratic",
        {"reference": "Song et al. 2021"},
    ),
    Entry(
        "schedule", "logsnr", "even in log-SNR", "noisewright.diffusion.schedules:logsnr",
        {"reference": "Lu et al. 2022"},
    ),
    Entry(
        "schedule", "karras", "sigma^(1/7) even", "noisewright.diffusion.schedules:karras",
        {"reference": "Karras et al. 2022, eq. 5"},
    ),
    Entry(
        "schedule", "exponential", "ln sigma even, both ends visited", "noisewright.diffusion.schedules:exponential",
        {"reference": "k-diffusion"},
    ),
    Entry(
        "schedule", "beta", "times at quantiles of Beta(0.6, 0.6)", "noisewright.diffusion.schedules:beta",
        {"reference": "Lee et al. 2024"},
    ),
    Entry(
        "schedule", "sgm-uniform", "even whole times, shifted on flow models",
        "noisewright.diffusion.schedules:sgm_uniform",
        {"reference": "Stability AI's generative-models"},
    ),
    Entry(
        "schedule", "ays-sd15", "Align Your Steps for SD 1.5; any length by interpolation",
        "noisewright.diffusion.schedules:ays_sd15",
        {"reference": "Sabour et al. 2024"},
    ),
    Entry(
        "schedule", "ays-sdxl", "Align Your Steps for SDXL; any length by interpolation",
        "noisewright.diffusion.schedules:ays_sdxl",
        {"reference": "Sabour et al. 2024"},
    ),
    Entry(
        "schedule", "autodiffusion", "AutoDiffusion's sequences for SD, of 4 or 6 steps",
        "noisewright.diffusion.schedules:autodiffusion",
        {"reference": "Li et al. 2023"},
    ),
]  # fmt: skip
