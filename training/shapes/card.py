"""Writes the model cards from the measured figures."""

import json
from pathlib import Path
from typing import Any

import clip
import clip_further
import generated
import numpy as np
import placed
import torch
from safetensors import safe_open

import diffusion
from evaluate import GUIDANCE
from noisewright.measures.bootstrap import interval
from noisewright.shapes.prompts import KINDS

SUCCESS = "python benchmarks/success.py"

HEADER = """---
license: apache-2.0
library_name: {library}
---
"""


def weights_in(folder: Path) -> tuple[int, int]:
    """How many weights, and how many bytes, the safetensors files under ``folder`` hold."""
    count = size = 0
    for path in folder.rglob("*.safetensors"):
        size += path.stat().st_size
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                shape = file.get_slice(name).get_shape()
                product = 1
                for side in shape:
                    product *= side
                count += product
    return count, size


def table(rows: dict[str, dict[str, float]]) -> str:
    """A Markdown table of percentages."""
    columns = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{100 * row[column]:.1f}" for column in columns) + " |")
    return "\n".join(lines)


def success(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The table of benchmarks/success.py, and the gain with its interval, from its rows."""
    titles = {
        "baseline": "plain, one seed",
        "mean": "plain, mean of 16 seeds",
        "best": "shapes-clip's pick of 16",
        "oracle": "oracle's pick of 16",
    }
    table = {
        title: {
            name: float(np.mean([row[key] for row in rows if name in ("all", row["kind"])])) for name in ("all", *KINDS)
        }
        for key, title in titles.items()
    }
    gain = np.array([float(row["best"]) - float(row["baseline"]) for row in rows])
    low, high = interval(gain)
    return {"best": table, "gain": {"gain": float(gain.mean()), "low": low, "high": high}}


def command(what: str) -> str:
    """The line that says how a table was made."""
    return f"`python training/shapes/evaluate.py {what}`"


def write(work: Path, models: Path) -> None:
    """Writes README.md of ``noisewright/shapes`` and of ``noisewright/shapes-clip``.

    Raises:
        ValueError: a figure has not been measured yet.
    """
    figures = json.loads((work / "figures.json").read_text(encoding="utf-8"))
    missing = [n for n in ("oracle", "steps test", "negatives") if n not in figures]
    if missing:
        raise ValueError(f"expected figures {missing} in {work / 'figures.json'}: run evaluate.py first")
    if not (work / "success.json").exists():
        raise ValueError(f"expected {work / 'success.json'}: run {SUCCESS} --json {work / 'success.json'} first")
    figures |= success(json.loads((work / "success.json").read_text(encoding="utf-8")))
    shapes, verifier = models / "shapes", models / "shapes-clip"
    (shapes / "README.md").write_text(_shapes(figures, work, shapes), encoding="utf-8")
    (verifier / "README.md").write_text(_clip(figures, work, verifier), encoding="utf-8")


def _training(work: Path, name: str) -> str:
    notes = json.loads((work / "trainings.json").read_text(encoding="utf-8"))
    note = notes[name]
    return f"{note['steps']:,} steps of {note['batch']}, {note['seconds'] / 60:.0f} minutes"


def _shapes(figures: dict, work: Path, folder: Path) -> str:
    count, size = weights_in(folder)
    oracle, best = figures["oracle"], figures["best"]
    mean, top = best["plain, mean of 16 seeds"], best["oracle's pick of 16"]
    weakest = min(KINDS, key=mean.__getitem__)
    alone, plain = (100 * some["all"] for some in (figures["steps test"]["25 steps"], best["plain, one seed"]))
    return (
        HEADER.format(library="diffusers")
        + f"""
# noisewright/shapes

A Stable Diffusion pipeline of {count / 1e6:.1f} million weights ({size / 1e6:.1f} MB in float16) that paints 64x64
scenes of coloured shapes from a prompt. It is small enough for a laptop's CPU and wrong often enough for a search
over its noise to matter: its pictures are clean, and its mistakes are mostly of composition (a wrong count,
relation, or binding of colour to shape). It is meant for demonstrations, tests and benchmarks of noisewright.

```python
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained("src/noisewright/models/shapes")
image = pipe("a red circle left of a blue square", num_inference_steps=25, guidance_scale=4).images[0]
```

Computed in float32. Licence: Apache-2.0, weights and code; all data is drawn by `training/shapes/data.py`.

## What it understands

One to four objects: *circle, square, triangle, star, cross*; *red, orange, yellow, green, cyan, blue, purple,
pink*; *small* or *large*, or no word of size; *one* to *four*; *left of, right of, above, below* between two
objects. "a large red circle", "three blue stars", "two red circles and a green star", "a red circle left of a
blue square", "a red circle, a blue square and a green star". Other words are outside what it was trained on.

## Parts

| part | class | what |
|---|---|---|
| `vae` | `AutoencoderKL` | f = 4, latents 16x16 of 4 channels, of which it uses 2; {_training(work, "autoencoder")} |
| `unet` | `UNet2DConditionModel` | channels (64, 128), cross-attention at 8x8; {_training(work, "diffusion")} |
| `text_encoder` | `CLIPTextModel` | width 128, 3 layers; {_training(work, "layout")} on layouts, then with the U-Net |
| `tokenizer` | `CLIPTokenizer` | byte-level BPE, each word of the grammar one token, 24 tokens at most |
| `scheduler` | `DDIMScheduler` | epsilon, scaled linear 0.00085 to 0.012, 1000 steps |

Trained on {diffusion.PICTURES:,} drawn scenes, on two CPU cores in bfloat16 autocast, the moving average of the weights
kept: `python training/shapes/train.py all`. These very weights were made in pieces, so a new run of the script gives
weights like them, not the same: the autoencoder began from one that 5,200 steps had trained with another loss (a faint
KL term and no noise on the latents), which is why two of its channels stay unused (they are held at zero); the U-Net
began from 1,700 steps on that one's latents; and the lengths of the learning rate schedules were changed on the way.
The number of steps and the guidance were chosen on the `dev` prompts. Test prompts of one object occur in training too,
as there are only 120 such prompts.

## Figures

Success: the share of pictures in which the oracle (`noisewright.shapes.oracle`) finds exactly the prompt's scene.
200 test prompts, 40 of each kind, guidance {GUIDANCE:g}, in %. One picture a prompt (seed 0): {command("steps")}

{table(figures["steps test"])}

Sixteen other seeds a prompt, 25 steps: `{SUCCESS}`. The {alone:.1f} % above and the {plain:.1f} % below are of the
same prompts, steps and guidance; only the noises differ. Above, all 200 prompts share the one noise of seed 0, so
their successes hang together, and it is a poor one; below, prompt k has seeds of its own, 1000 k and on. The mean over
sixteen seeds a prompt, {100 * mean["all"]:.1f} %, is the best estimate of what a plain picture gets.

{table(best)}

The oracle reads {100 * oracle["renders"]:.2f} % of {oracle["scenes"]:,} held-out rendered scenes exactly (objects,
colours, shapes, sizes, positions within a pixel) and {100 * oracle["reconstructions"]:.2f} % of their autoencoder
reconstructions (PSNR {oracle["psnr_db"]:.1f} dB), at {oracle["ms_a_picture"]:.1f} ms a picture:
{command("oracle")}

## Limits

It is weakest at prompts of the kind "{weakest}": {100 * mean[weakest]:.0f} % of its pictures for them are right, and
the oracle finds a right one among 16 for {100 * top[weakest]:.0f} % of them. It knows no word outside its grammar,
makes no size other than 64x64 well, and its world has no occlusion, no rotation and no texture. Success here says
nothing about larger models; it is a place to compare searches.
"""
    )


def _clip(figures: dict, work: Path, folder: Path) -> str:
    count, size = weights_in(folder)
    gain, edits = figures["gain"], figures["negatives"]["reconstructions, image"]
    hardest = min((name for name in edits if name != "all"), key=edits.__getitem__)
    picked, top = (figures["best"][name] for name in ("shapes-clip's pick of 16", "oracle's pick of 16"))
    missed = max(KINDS, key=lambda name: top[name] - picked[name])
    made = generated.PARTS * generated.PROMPTS
    return (
        HEADER.format(library="transformers")
        + f"""
# noisewright/shapes-clip

A `CLIPModel` of {count / 1e6:.1f} million weights ({size / 1e6:.1f} MB in float16) that scores how well a 64x64 scene
of coloured shapes fits a prompt. It is the verifier of `noisewright/shapes`: same classes and use as
`openai/clip-vit-large-patch14`, small enough for a CPU, and, like it, not always right.

Vision: 64 patches of 8x8 pixels, width 160, 6 layers. Text: width 128, 3 layers. Projection: 128. Licence: Apache-2.0.

Trained on {clip.GROUPS:,} groups of {clip.GROUP_SIZE} scenes that are hard negatives to each other: a prompt and its
scene with a colour, shape, size, count, binding of colours, or relation changed, half of the time in the same layout;
{100 * clip.RECONSTRUCTED:.0f} % of them seen through the autoencoder with noise on the latents.
{_training(work, "clip")} on two CPU cores: `python training/shapes/train.py clip`. While it learned, two linear heads
also had to tell what stands on each patch and what the whole picture holds (known from the drawn scene); they are not
part of the model. The text tower began as the diffusion model's text encoder, and the vision tower as that of an
earlier version (1,250 such steps), with which the script does not begin.

That left it at chance on relations: nothing of them was in a text's vector. So it was trained further, by
`python training/shapes/train.py clip-further`. First the text tower alone learned to read: by a linear head on its
vector, which is dropped, to tell which way each named colour and shape stands, how many there are and how large, and
half of that halfway ({_training(work, "clip-text")} on one core). Then both towers went on together
({_training(work, "clip-further")} on one core) with
- {clip_further.GROUPS:,} more groups, {100 * clip_further.KIND_WEIGHTS["relation"]:.0f} % of them of relations;
- {placed.PROMPTS * generated.SEEDS:,} drawn scenes of relations and counts, right or nearly so, and
- {made * generated.SEEDS:,} pictures that `noisewright/shapes` made for {made:,} random prompts, {generated.SEEDS}
  each, in {generated.FEW_STEPS} or {generated.STEPS} steps, to be put into the order of the oracle's grades within a
  prompt (-log sigmoid(better - worse)).

These very weights were made in two pieces, so a new run of the script gives weights like them, not the same: 500 steps
without the drawn scenes nearly right, 240 with them, and the mean of what both had come to; of the two and their mean
it was the best of 16 on the dev prompts that chose.

**So it has seen pictures of the diffusion model and the oracle's verdicts on them**, as real reward models have seen
people's on generated pictures. That the oracle calls its picks right on the test prompts says that it has learnt to see
as the oracle does, of prompts that it was not taught on; it is not the opinion of somebody it never met. No prompt of
the dev and test sets was among those pictures' prompts. In the drawn groups and the texts of the second training none
was but those of one object, of which there are 120 in all; in those of the first, drawn at random, some were.

## Figures

Picking the best of 16 pictures of `noisewright/shapes` for each of the 200 test prompts lifts success, as the
oracle judges, by {100 * gain["gain"]:+.1f} points over the plain picture (the first seed); paired bootstrap 95 %
interval [{100 * gain["low"]:.1f}, {100 * gain["high"]:.1f}]. By kind of prompt, in %: `{SUCCESS}`

{table(figures["best"])}

Held-out hard negatives told apart, in %. "image": a prompt scores its own picture above the edited one; "text": a
picture scores its own prompt above the edited one. {command("negatives")}

{table(figures["negatives"])}

## Limits

The edit that it tells apart least is "{hardest}", {100 * edits[hardest]:.0f} % (50 % would be chance). Among generated
pictures it falls furthest behind the oracle for prompts of the kind "{missed}": {100 * picked[missed]:.0f} % where the
oracle's pick is right for {100 * top[missed]:.0f} %. It knows only the prompts and pictures of `noisewright/shapes`.
"""
    )


def note_training(work: Path, name: str, batch: int, step: int | None = None) -> None:
    """Notes what a training took, for the card; ``step`` where an earlier one's weights were taken."""
    path = work / "trainings.json"
    notes = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    state = torch.load(work / f"{name}.pt", weights_only=True)
    share = (step or state["step"]) / state["step"]
    notes[name] = {"steps": step or state["step"], "batch": batch, "seconds": share * state["seconds"]}
    path.write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
