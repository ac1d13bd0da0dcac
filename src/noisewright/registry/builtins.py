"""What comes with noisewright, as entries of the registry; plug-ins add theirs in the same form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STEP_NOISE = "step noise"
"""A search whose copies of a particle differ by the noise of their steps: eta > 0."""

FULL_STEPS = "full steps"
"""A search that changes states on their way, which have no counterpart on another number of steps."""


BEGINS_ANEW = "states that begin anew on their way"
"""A search that carries states back towards noise: what a solver remembers of earlier steps does not hold there."""

GRADIENT = "verifiers and a solver with a gradient"
"""A search that climbs."""

PREVIEWS = "previews"
"""A search that scores clean estimates on the way."""


@dataclass(frozen=True)
class Entry:
    """One named thing that a person can choose.

    Attributes:
        kind: ``search``, ``verifier``, ``model``, ``solver`` or ``schedule``.
        name: what is typed.
        summary: one line.
        target: ``module:attribute`` that is imported when it is chosen ("" for models and schedules).
        details: what ``list`` shows besides: cost, reference, range, licence, ...
        options: keyword arguments given to the target.
        needs: of a search, among ``STEP_NOISE``, ``FULL_STEPS``, ``PREVIEWS``,
            ``BEGINS_ANEW`` and ``GRADIENT``.
    """

    kind: str
    name: str
    summary: str
    target: str = ""
    details: dict[str, str] = field(default_factory=dict, hash=False)
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    needs: tuple[str, ...] = ()


ENTRIES = [
    Entry(
        "search", "random", "best of N: fresh noise each time, keep the best", "noisewright.search.random:random",
        {"cost": "N * S NFE", "reference": "Ma et al. 2025, section 3.1"},
    ),
    Entry(
        "search", "zero-order", "move to the best neighbour of the best noise so far, again and again",
        "noisewright.search.zero_order:zero_order",
        {"cost": "S * (1 + K * R) NFE", "reference": "Ma et al. 2025, section 3.1"},
    ),
    Entry(
        "search", "paths", "carry good states back towards noise, branch, keep the best previews",
        "noisewright.search.paths:paths",
        {"cost": "N * i0 + R * N * M * (L + 1) + finishing, NFE", "reference": "Ma et al. 2025, section 3.1"},
        needs=(FULL_STEPS, PREVIEWS, BEGINS_ANEW),
    ),
    Entry(
        "search", "zero-order+paths", "zero-order on the start, then paths from the winner",
        "noisewright.search.zero_order_paths:zero_order_paths",
        {"cost": "the sum of the two", "reference": "after Ma et al. 2025"},
        needs=(FULL_STEPS, PREVIEWS, BEGINS_ANEW),
    ),
    Entry(
        "search", "fk", "a particle filter: weigh trajectories by their previews and resample",
        "noisewright.search.fk:fk",
        {"cost": "k * S NFE", "reference": "Singhal et al. 2025"},
        needs=(STEP_NOISE, FULL_STEPS, PREVIEWS),
    ),
    Entry(
        "search", "svdd", "the best of M continuations, every B steps (SVDD; CoDe for B > 1)",
        "noisewright.search.svdd:svdd",
        {"cost": "W * (b + M * (S - b)) NFE, a little more or less", "reference": "Li et al. 2024; Singh et al. 2025"},
        needs=(STEP_NOISE, FULL_STEPS, PREVIEWS),
    ),
    Entry(
        "search", "rbf", "stop a step's proposals at the first better preview, save the rest for later steps",
        "noisewright.search.rbf:rbf",
        {"cost": "F * (b + 1) + (S - 1 - b) * Q NFE", "reference": "Kim et al. 2025"},
        needs=(STEP_NOISE, FULL_STEPS, PREVIEWS),
    ),
    Entry(
        "search", "evolution", "elites, tournament and mutation at several points of the way",
        "noisewright.search.evolution:evolution",
        {"cost": "P * S + generations * (P - E) * (S - i) NFE", "reference": "He et al. 2025"},
        needs=(FULL_STEPS, BEGINS_ANEW),
    ),
    Entry(
        "search", "halving", "start many, cut by previews, where previews rank like finals",
        "noisewright.search.halving:halving",
        {
            "cost": "about 0.68 * N * S NFE at the defaults, and 0.32 * P * S for the pilot",
            "reference": "Jamieson and Talwalkar 2016",
        },
        needs=(PREVIEWS,),
    ),
    Entry(
        "search", "refine", "more like this, better: an evolution strategy or CMA-ES around a noise",
        "noisewright.search.refine:refine",
        {"cost": "S * (1 + P * G) NFE", "reference": "Hansen 2016"},
    ),
    Entry(
        "search", "gradient", "ascent on the starting noise, through the whole sampler, with the norm prior",
        "noisewright.search.gradient:gradient",
        {"cost": "K * S * (1 + I + I / every) NFE, and K * S * I backward", "reference": "Eyring et al. 2024 (ReNO)"},
        needs=(FULL_STEPS, GRADIENT),
    ),
    Entry(
        "verifier", "clip", "CLIPScore, 100 max(cos, 0); clip:MODEL chooses another CLIPModel",
        "noisewright.verifiers.clip:ClipVerifier",
        {
            "range": "0..100, usually 20..35", "licence": "MIT (openai/clip-vit-large-patch14)", "size": "1.7 GB",
            "needs": "a prompt of at most 77 tokens", "options": "processor, name",
        },
        {"model": "openai/clip-vit-large-patch14"},
    ),
    Entry(
        "verifier", "pickscore", "PickScore v1, exp(logit_scale) cos: what users of a text-to-image service preferred",
        "noisewright.verifiers.pickscore:PickScore",
        {
            "range": "about 17..25", "licence": "MIT (yuvalkirstain/PickScore_v1)", "size": "3.9 GB",
            "needs": "a prompt of at most 77 tokens; the processor of laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            "options": "processor, name",
        },
        {"model": "yuvalkirstain/PickScore_v1"},
    ),
    Entry(
        "verifier", "hps", "HPS v2.1, cos: human preference; compare within one prompt only",
        "noisewright.verifiers.hps:Hps",
        {
            "range": "-1..1, usually 0.20..0.35", "licence": "Apache-2.0 (xswu/HPSv2)", "size": "2 to 4 GB",
            "needs": "a prompt of at most 77 tokens; the tokenizer of laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            "options": "version (2.0 or 2.1), processor, name",
        },
        {"model": "xswu/HPSv2", "version": "2.1"},
    ),
    Entry(
        "verifier", "hps-v2.0", "HPS v2.0, cos; its numbers do not compare with those of v2.1",
        "noisewright.verifiers.hps:Hps",
        {
            "range": "-1..1, usually 0.20..0.35", "licence": "Apache-2.0 (xswu/HPSv2)", "size": "2 to 4 GB",
            "needs": "a prompt of at most 77 tokens; the tokenizer of laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            "options": "processor, name",
        },
        {"model": "xswu/HPSv2", "version": "2.0"},
    ),
    Entry(
        "verifier", "aesthetic", "LAION aesthetic predictor v2 on CLIP ViT-L/14; ignores the prompt",
        "noisewright.verifiers.aesthetic:Aesthetic",
        {
            "range": "1..10, usually 4.5..7.5", "licence": "MIT (CLIP), Apache-2.0 (head)", "size": "1.7 GB + 4 MB",
            "needs": "the head, from camenduru/improved-aesthetic-predictor or head=FILE", "options": "head, name",
        },
        {"model": "openai/clip-vit-large-patch14"},
    ),
    Entry(
        "verifier", "imagereward", "ImageReward v1.0, BLIP ViT-L and a head: what annotators preferred for the prompt",
        "noisewright.verifiers.imagereward:ImageRewardVerifier",
        {
            "range": "about -2.3..2", "licence": "Apache-2.0 (zai-org/ImageReward)", "size": "1.8 GB",
            "needs": "a prompt of at most 35 tokens; the vocabulary of google-bert/bert-base-uncased",
            "options": "batch_size, name",
        },
        {"model": "zai-org/ImageReward"},
    ),
    Entry(
        "verifier", "classifier", "logit or probability of the class that the prompt names, or of label=",
        "noisewright.verifiers.classifier:Classifier",
        {
            "range": "any number; 0..1 with output=probability",
            "licence": "Apache-2.0 (facebook/dinov2-base-imagenet1k-1-layer)", "size": "0.35 GB",
            "needs": "a prompt that names one class", "options": "label, output (logit or probability), name",
        },
        {"model": "facebook/dinov2-base-imagenet1k-1-layer"},
    ),
    Entry(
        "verifier", "clip-classifier", "CLIP zero-shot: logit or probability of one of labels=cat,dog,...",
        "noisewright.verifiers.classifier:ClipClassifier",
        {
            "range": "about 10..35; 0..1 with output=probability", "licence": "MIT (openai/clip-vit-large-patch14)",
            "size": "1.7 GB", "needs": "labels, and a prompt that names one of them or label=",
            "options": "labels, label, template, output (logit or probability), processor, name",
        },
        {"model": "openai/clip-vit-large-patch14"},
    ),
    Entry(
        "verifier", "self-similarity", "cosine between the features of the image and of its preview at t = 0.4",
        "noisewright.verifiers.self_similarity:SelfSimilarity",
        {
            "range": "-1..1", "licence": "Apache-2.0 (facebook/dinov2-base)", "size": "0.35 GB",
            "needs": "a search, which has the previews", "options": "name",
        },
        {"model": "facebook/dinov2-base"},
    ),
    Entry(
        "verifier", "shapes-clip", "CLIPScore by the bundled CLIPModel of the shapes world",
        "noisewright.verifiers.clip:ClipVerifier",
        {"range": "0..100", "licence": "Apache-2.0", "size": "in the package",
         "options": "processor, name"},
        {"model": "noisewright/shapes-clip"},
    ),
    Entry(
        "verifier", "shapes-aesthetic", "rating of clean pictures by a head on the bundled CLIP; ignores the prompt",
        "noisewright.verifiers.aesthetic:Aesthetic",
        {"range": "1..10", "licence": "Apache-2.0", "size": "in the package",
         "options": "head, name"},
        {"model": "noisewright/shapes-aesthetic"},
    ),
    Entry(
        "verifier", "shapes-reward", "reward of ImageReward's kind by the bundled BLIP of the shapes world",
        "noisewright.verifiers.imagereward:ImageRewardVerifier",
        {"range": "any number, mean 0, deviation 1", "licence": "Apache-2.0", "size": "in the package",
         "options": "batch_size, name"},
        {"model": "noisewright/shapes-reward"},
    ),
    Entry(
        "verifier", "shapes-oracle", "exact reader of the shapes world; 1.0 = the whole scene is right",
        "noisewright.verifiers.shapes_oracle:ShapesOracle",
        {"range": "0..1", "licence": "Apache-2.0", "size": "no model"},
    ),
    Entry(
        "verifier", "brightness", "mean of all channels", "noisewright.verifiers.pixels:Brightness",
        {"range": "0..1", "licence": "Apache-2.0", "size": "no model"},
    ),
    Entry(
        "verifier", "sharpness", "mean absolute Laplacian of the grey image", "noisewright.verifiers.pixels:Sharpness",
        {"range": "0..4", "licence": "Apache-2.0", "size": "no model"},
    ),
    Entry(
        "verifier", "color", "nearness of the mean colour to one, color:#ff8000", "noisewright.verifiers.pixels:Color",
        {"range": "0..1", "licence": "Apache-2.0", "size": "no model",
         "options": "name"},
    ),
    Entry(
        "verifier", "compressibility", "minus the JPEG's size in kB; compressibility:QUALITY, by default 95",
        "noisewright.verifiers.pixels:compressibility",
        {"range": "below 0", "licence": "Apache-2.0", "size": "no model", "reference": "Black et al. 2023",
         "options": "name"},
    ),
    Entry(
        "verifier", "incompressibility", "the JPEG's size in kB; incompressibility:QUALITY, by default 95",
        "noisewright.verifiers.pixels:incompressibility",
        {"range": "above 0", "licence": "Apache-2.0", "size": "no model", "reference": "Black et al. 2023",
         "options": "name"},
    ),
    Entry(
        "verifier", "vlm", "rubric of six aspects by a vision-language model: vlm:MODEL, vlm:URL#MODEL, vlm:OWNER/NAME",
        "noisewright.verifiers.vlm:make_vlm",
        {"range": "0..10", "licence": "the model's", "size": "the model's",
         "needs": "a server (OPENAI_BASE_URL, OPENAI_API_KEY) and noisewright[judge], or a model that runs here",
         "options": "aspect, cache, name, workers, tries, timeout, deadline, key_env, temperature, prices",
         "reference": "Ma et al. 2025, section 4"},
    ),
    Entry(
        "verifier", "vqa", "VQAScore, the probability of Yes by a vision-language model; named as for vlm",
        "noisewright.verifiers.vlm:make_vqa",
        {"range": "0..1", "licence": "the model's", "size": "the model's", "needs": "as vlm",
         "options": "cache, name, workers, tries, timeout, deadline, key_env, prices",
         "reference": "Lin et al. 2024"},
    ),
    Entry(
        "verifier", "http", "a server's scores: POST of PNGs to http://HOST/PATH",
        "noisewright.verifiers.http:over_http",
        {"range": "the server's", "licence": "the server's", "size": "no model", "needs": "a server",
         "options": "name, timeout, deadline, key_env, key_as"},
    ),
    Entry(
        "verifier", "https", "a server's scores: POST of PNGs to https://HOST/PATH",
        "noisewright.verifiers.http:over_https",
        {"range": "the server's", "licence": "the server's", "size": "no model", "needs": "a server",
         "options": "name, timeout, deadline, key_env, key_as"},
    ),
    Entry(
        "verifier", "inception-score", "probability of the prompt's class under a classifier (Ma et al.'s IS oracle)",
        "noisewright.verifiers.inception_score:InceptionScoreVerifier",
        {"range": "0..1", "licence": "the model's", "size": "the model's", "needs": "a prompt that is a class name",
         "options": "name"},
        {"model": "noisewright/cifar10-classifier"},
    ),
    Entry(
        "verifier", "fid", "minus the Frechet distance of all accepted images with this one (Ma et al.'s FID oracle)",
        "noisewright.verifiers.fid:FidVerifier",
        {
            "range": "-inf..0", "licence": "the model's", "size": "the model's",
            "needs": "reference.safetensors beside the model; depends on what was accepted before",
            "options": "reference, start, name",
        },
        {"model": "noisewright/cifar10-classifier"},
    ),
    Entry(
        "model", "noisewright/shapes", "Stable Diffusion pipeline of a few million weights, 64x64 scenes of shapes",
        details={"licence": "Apache-2.0", "size": "in the package"},
    ),
    Entry(
        "model", "noisewright/cifar10", "class-conditional flow transformer, 32x32 pictures of CIFAR-10's ten classes",
        details={"licence": "Apache-2.0", "size": "in the package"},
    ),
    Entry(
        "solver", "pipeline", "the pipeline's own scheduler (mapped to the equal solver, or run natively)",
        details={"nfe per step": "as the scheduler"},
    ),
    Entry(
        "solver", "ddim", "DDIM with eta; Euler on flow models", "noisewright.diffusion.solvers:Ddim",
        {"nfe per step": "1", "order": "1", "eta": "0..1", "reference": "Song et al. 2021"},
        {"name": "ddim"},
    ),
    Entry(
        "solver", "euler", "the same rule under its other name", "noisewright.diffusion.solvers:Ddim",
        {"nfe per step": "1", "order": "1", "eta": "0..1", "reference": "Karras et al. 2022"},
        {"name": "euler"},
    ),
    Entry(
        "solver", "heun", "Heun: the mean of the slopes at both ends of a step", "noisewright.diffusion.solvers:Heun",
        {"nfe per step": "2, 1 in the last", "order": "2", "eta": "none",
         "reference": "Karras et al. 2022, algorithm 1"},
        {"name": "heun"},
    ),
    Entry(
        "solver", "dpm-solver-2", "DPM-Solver-2, singlestep: the schedule's levels two by two",
        "noisewright.diffusion.solvers:DpmSolver",
        {"nfe per step": "1", "order": "2", "eta": "none", "reference": "Lu et al. 2022 (2206.00927)"},
        {"name": "dpm-solver-2", "order": 2},
    ),
    Entry(
        "solver", "dpm-solver-3", "DPM-Solver-3, singlestep: the schedule's levels three by three",
        "noisewright.diffusion.solvers:DpmSolver",
        {"nfe per step": "1", "order": "3, 2 on uneven levels", "eta": "none",
         "reference": "Lu et al. 2022 (2206.00927)"},
        {"name": "dpm-solver-3", "order": 3},
    ),
    Entry(
        "solver", "dpmpp-2m", "DPM-Solver++ 2M, multistep", "noisewright.diffusion.solvers:DpmPlusPlus",
        {"nfe per step": "1", "order": "2", "eta": "none", "reference": "Lu et al. 2022 (2211.01095)"},
        {"name": "dpmpp-2m", "order": 2},
    ),
    Entry(
        "solver", "dpmpp-3m", "DPM-Solver++ 3M, multistep; as published, which is of order 2",
        "noisewright.diffusion.solvers:DpmPlusPlus",
        {"nfe per step": "1", "order": "2", "eta": "none", "reference": "Lu et al. 2022 (2211.01095)"},
        {"name": "dpmpp-3m", "order": 3},
    ),
    Entry(
        "solver", "dpmpp-2m-sde", "DPM-Solver++ 2M for the SDE; eta 1 by default",
        "noisewright.diffusion.solvers:DpmPlusPlusSde",
        {"nfe per step": "1", "order": "2 at eta 0", "eta": "0..1", "reference": "Lu et al. 2022 (2211.01095)"},
        {"name": "dpmpp-2m-sde"},
    ),
    Entry(
        "solver", "deis-1", "DEIS with a line through the last two noises (diffusers' order 2)",
        "noisewright.diffusion.solvers:Deis",
        {"nfe per step": "1", "order": "2", "eta": "none", "reference": "Zhang and Chen 2023"},
        {"name": "deis-1", "degree": 1},
    ),
    Entry(
        "solver", "deis-2", "DEIS with a parabola (diffusers' order 3)", "noisewright.diffusion.solvers:Deis",
        {"nfe per step": "1", "order": "3", "eta": "none", "reference": "Zhang and Chen 2023"},
        {"name": "deis-2", "degree": 2},
    ),
    Entry(
        "solver", "deis-3", "DEIS with a cubic", "noisewright.diffusion.solvers:Deis",
        {"nfe per step": "1", "order": "4", "eta": "none", "reference": "Zhang and Chen 2023"},
        {"name": "deis-3", "degree": 3},
    ),
    Entry(
        "solver", "pndm-s", "PNDM from a pseudo Heun step (PLMS; diffusers' skip_prk_steps)",
        "noisewright.diffusion.solvers:SPndm",
        {"nfe per step": "1, 2 in the first", "order": "2, 1 on uneven levels", "eta": "none",
         "reference": "Liu et al. 2022"},
        {"name": "pndm-s"},
    ),
    Entry(
        "solver", "pndm-f", "PNDM from three pseudo Runge-Kutta steps", "noisewright.diffusion.solvers:FPndm",
        {"nfe per step": "1, 4 in the first three", "order": "2, 1 on uneven levels", "eta": "none",
         "reference": "Liu et al. 2022"},
        {"name": "pndm-f"},
    ),
    Entry(
        "solver", "ipndm", "improved PNDM: no extra evaluations at the start", "noisewright.diffusion.solvers:Ipndm",
        {"nfe per step": "1", "order": "2, 1 on uneven levels", "eta": "none",
         "reference": "Zhang and Chen 2023"},
        {"name": "ipndm"},
    ),
    Entry(
        "solver", "unipc", "UniPC-2: predictor and corrector from one evaluation (the last step is of lower order)",
        "noisewright.diffusion.solvers:UniPc",
        {"nfe per step": "1", "order": "3", "eta": "none", "reference": "Zhao et al. 2023"},
        {"name": "unipc"},
    ),
    Entry(
        "solver", "ltsp", "guidance split off, Lie-Trotter: PNDM without it, then Euler with it alone",
        "noisewright.diffusion.solvers:Splitting",
        {"nfe per step": "2, 1 in the last", "order": "1", "eta": "none",
         "reference": "Wizadwongsa and Suwajanakorn 2023"},
        {"name": "ltsp", "strang": False},
    ),
    Entry(
        "solver", "stsp", "guidance split off, Strang: half of it before and half after",
        "noisewright.diffusion.solvers:Splitting",
        {"nfe per step": "3, 1 in the last", "order": "1", "eta": "none",
         "reference": "Wizadwongsa and Suwajanakorn 2023"},
        {"name": "stsp", "strang": True},
    ),
    Entry("schedule", "pipeline", "the pipeline's own noise levels"),
    Entry(
        "schedule", "uniform", "even in the network's time",
    ),
    Entry(
        "schedule", "quadratic", "even in the root of the time", details={"reference": "Song et al. 2021"},
    ),
    Entry(
        "schedule", "logsnr", "even in log-SNR", details={"reference": "Lu et al. 2022"},
    ),
    Entry(
        "schedule", "karras", "sigma^(1/7) even", details={"reference": "Karras et al. 2022, eq. 5"},
    ),
    Entry(
        "schedule", "exponential", "ln sigma even, both ends visited", details={"reference": "k-diffusion"},
    ),
    Entry(
        "schedule", "beta", "times at quantiles of Beta(0.6, 0.6)", details={"reference": "Lee et al. 2024"},
    ),
    Entry(
        "schedule", "sgm-uniform", "even whole times, shifted on flow models",
        details={"reference": "Stability AI's generative-models"},
    ),
    Entry(
        "schedule", "ays-sd15", "Align Your Steps for SD 1.5; any length by interpolation",
        details={"reference": "Sabour et al. 2024"},
    ),
    Entry(
        "schedule", "ays-sdxl", "Align Your Steps for SDXL; any length by interpolation",
        details={"reference": "Sabour et al. 2024"},
    ),
    Entry(
        "schedule", "autodiffusion", "AutoDiffusion's sequences for SD, of 4 or 6 steps",
        details={"reference": "Li et al. 2023"},
    ),
]  # fmt: skip
