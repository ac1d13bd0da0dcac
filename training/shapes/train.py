"""Trains the bundled models from nothing, and writes them with their cards.

    python training/shapes/train.py all --device cpu --work runs/training

Each stage goes on from its checkpoint in ``--work``; a finished stage only writes its files again. ``clip-further``
begins with the verifier in ``--models``, which ``clip`` wrote there.
"""

import argparse
import json
from pathlib import Path

import autoencoder
import card
import clip
import clip_further
import data
import layout
import reading
import small
import small_card
import tokenizer
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer

import diffusion
from evaluate import GUIDANCE, MODELS, STEPS
from noisewright.shapes.prompts import WORDS

STAGES = ("prompts", "tokenizer", "autoencoder", "diffusion", "small", "clip", "clip-further", "card", "small-card")
MANIFEST = {
    "name": "noisewright/shapes",
    "version": 1,
    "default": {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE},
    "words": sorted(WORDS),
    "licence": "Apache-2.0",
    "verifier": "shapes-clip",
    "judge": "shapes-oracle",
}


def load_float32(folder: Path) -> None:
    """Makes a transformers model of float16 weights load in float32, as diffusers' parts do by default."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def forget_places(folder: Path) -> None:
    """Takes out of the configs where their model was loaded from."""
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_pipeline(work: Path, models: Path, step: int | None) -> None:
    """Writes the pipeline in float16 from the averaged weights.

    Args:
        work: folder of the checkpoints.
        models: folder of the bundled models.
        step: which kept copy of the weights to take; None takes the last.
    """
    folder = models / "shapes"
    words = tokenizer.build(work / "tokenizer")
    model = diffusion.build(words)
    if step is None:
        weights = torch.load(work / "diffusion.pt", weights_only=True)["average"]
    else:
        weights = torch.load(work / f"diffusion-{step}.pt", weights_only=True)
    model.load_state_dict(weights)
    pipe = diffusion.pipeline(AutoencoderKL.from_pretrained(work / "vae"), words, model)
    for part in (pipe.vae, pipe.unet, pipe.text_encoder):
        part.half()
    pipe.save_pretrained(folder)
    load_float32(folder / "text_encoder")
    forget_places(folder)
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    tokenizer.build(folder / "tokenizer")  # vocab.json and merges.txt, which any version of CLIPTokenizer reads
    (folder / "noisewright.json").write_text(json.dumps(MANIFEST, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Reads the command line and runs the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["all", *STAGES])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/training"))
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--step", type=int, help="diffusion: write this kept step's weights instead of the last")
    parser.add_argument("--minutes", type=float, help="small: of training, the rate falling with the clock")
    options = parser.parse_args()
    work, device = options.work, options.device
    work.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    stages = STAGES if options.stage == "all" else (options.stage,)
    if options.minutes is not None and "small" not in stages:
        parser.error(f"expected --minutes with the stage small, got it with {options.stage}")
    if "prompts" in stages:
        data.write_sets(MODELS.parent / "shapes")
    words: CLIPTokenizer = tokenizer.build(work / "tokenizer")
    if "autoencoder" in stages:
        autoencoder.fit(work, device).save_pretrained(work / "vae")
        card.note_training(work, "autoencoder", autoencoder.BATCH_SIZE)
    if "diffusion" in stages:
        if options.step is None:
            diffusion.fit(work, AutoencoderKL.from_pretrained(work / "vae").to(device), words, device)
        write_pipeline(work, options.models, options.step)
        card.note_training(work, "layout", layout.BATCH_SIZE)
        card.note_training(work, "diffusion", diffusion.BATCH_SIZE, options.step)
    if "small" in stages:
        further = {} if options.minutes is None else {"minutes": options.minutes, "steps": 10**9}
        made = small.fit(work, options.models, device, further=further)
        forget_places(small.write(made.cpu(), options.models, MANIFEST))
        card.note_training(work, "small", diffusion.BATCH_SIZE)
    verifier = options.models / "shapes-clip"
    if "clip" in stages:
        vae = AutoencoderKL.from_pretrained(work / "vae").to(device)
        text_encoder = CLIPTextModel.from_pretrained(options.models / "shapes" / "text_encoder")
        clip.save(clip.fit(work, vae, text_encoder, words, device), work / "tokenizer", verifier)
        load_float32(verifier)
        card.note_training(work, "clip", clip.BATCH_GROUPS * clip.GROUP_SIZE)
    if "clip-further" in stages:
        clip.save(clip_further.fit(work, options.models, words, device), work / "tokenizer", verifier)
        load_float32(verifier)
        forget_places(verifier)
        card.note_training(work, "clip-text", reading.BATCH_SIZE)
        card.note_training(work, "clip-further", clip_further.BATCH_GROUPS * clip.GROUP_SIZE)
    if "card" in stages:
        card.write(work, options.models)
    if "small-card" in stages:
        small_card.write(work, options.models)


if __name__ == "__main__":
    main()
