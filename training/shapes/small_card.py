"""Writes the card of ``noisewright/shapes-small`` from the measured figures."""

import json
from pathlib import Path
from typing import Any

import card
import small

from evaluate import GUIDANCE

NAME = "shapes-small"
OPTION = f"--model src/noisewright/models/{NAME}"


def write(work: Path, models: Path) -> None:
    """Writes its README.md.

    Raises:
        ValueError: a figure has not been measured yet.
    """
    figures = json.loads((work / "figures.json").read_text(encoding="utf-8"))
    missing = [one for one in (f"{NAME} steps test", f"{NAME} seconds", "steps test") if one not in figures]
    if missing:
        raise ValueError(f"expected figures {missing} in {work / 'figures.json'}: run evaluate.py, also with {OPTION}")
    (models / NAME / "README.md").write_text(_text(figures, work, models), encoding="utf-8")


def _text(figures: dict[str, Any], work: Path, models: Path) -> str:
    count, size = card.weights_in(models / NAME)
    large, _ = card.weights_in(models / "shapes" / small.PART)
    seconds = figures[f"{NAME} seconds"]
    own, other = seconds[NAME], seconds["shapes"]
    rows = {
        f"{name}, {steps}": figures[key][steps]
        for steps in ("10 steps", "25 steps")
        for name, key in ((NAME, f"{NAME} steps test"), ("shapes", "steps test"))
    }
    return (
        card.HEADER.format(library="diffusers")
        + f"""
# noisewright/{NAME}

`noisewright/shapes` with a smaller U-Net: {count:,} weights ({size / 1e6:.2f} MB in float16) in place of {large:,},
{count / large:.2f} of them, and {own["forward"] / other["forward"]:.2f} of the time of a forward. It is what asks
whether a smaller model with search beats a larger one without, as Ma et al. 2025 ask with PixArt-Sigma and FLUX.

Only the U-Net lies here. Autoencoder, text encoder, tokenizer and scheduler are those of `noisewright/shapes`, whose
directory noisewright takes them from; the two models have the same prompts, starting noises and latents.

```python
import noisewright as nw
nw.search("noisewright/{NAME}", "a red circle left of a blue square", budget="64 images").best.image
```

With plain diffusers:

```python
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
unet = UNet2DConditionModel.from_pretrained("src/noisewright/models/{NAME}/unet")
pipe = StableDiffusionPipeline.from_pretrained("src/noisewright/models/shapes", unet=unet)
image = pipe("a red circle left of a blue square", num_inference_steps=25, guidance_scale=4).images[0]
```

Licence: Apache-2.0, weights and code. What it understands is said in the card of `noisewright/shapes`.

## How it is made

`UNet2DConditionModel`: channels {small.CHANNELS}, no middle block, the timestep embedded in {small.TIME_WIDTH} numbers;
cross-attention at 8x8 on the way down and up. Trained alone on {small.PICTURES:,} drawn scenes, half as many as the
large one, with the same loss (min-SNR, on the noise that was added; the large U-Net taught it nothing), what the text
encoder says of their prompts encoded once: {card._training(work, "small")} in float32 on a GPU (NVIDIA H200) that did
other work as well, the rate falling with the clock, the moving average of the weights kept:
`python training/shapes/train.py small --device cuda --minutes 2.3`; on a CPU without `--minutes`, {small.STEPS:,}
steps.

## Figures

Success: the share of pictures in which the oracle finds exactly the prompt's scene. 200 test prompts, 40 of each kind,
guidance {GUIDANCE:g}, one picture a prompt (seed 0), in %: `python training/shapes/evaluate.py steps {OPTION}`,
and without `--model` for the large one.

{card.table(rows)}

All prompts share one noise here, and it is a poor one (the card of `noisewright/shapes` says more).

CPU time of one thread, batches of {seconds["batch"]}, the two models in turns, median of {seconds["turns"]} turns:
a forward of the U-Net takes {1e3 * own["forward"]:.2f} ms a picture ({1e3 * other["forward"]:.2f} ms the large one), an
image of 25 steps with guidance, decoded, {own["image"]:.3f} s ({other["image"]:.3f} s), a ratio of
{own["image"] / other["image"]:.2f}: `python training/shapes/evaluate.py seconds {OPTION}`

## Limits

Those of `noisewright/shapes`, and more of them: it is a smaller network that saw less. Success here says nothing about
larger models; it is a place to compare searches.
"""
    )
