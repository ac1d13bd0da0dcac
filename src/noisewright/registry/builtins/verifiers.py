"""The verifiers that come with noisewright."""

from __future__ import annotations

from noisewright.registry.kinds import Entry

VERIFIERS = [
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
        "verifier", "human", "what a person chose on the page of a run, by its images' pixels: human:RUN",
        "noisewright.web.human:Human",
        {"range": "any number, mean about 0", "licence": "yours", "size": "no model",
         "needs": "choices made with noisewright serve", "reference": "Bradley and Terry 1952", "options": "name"},
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
]  # fmt: skip
