"""Writes the model cards from the measured figures."""

import json
import textwrap
from pathlib import Path
from typing import Any

import classifier
import data
from safetensors import safe_open

import diffusion
from noisewright.verifiers.fid import REFERENCE, START

HEADER = """---
license: apache-2.0
library_name: {library}
---
"""

CAUTION = """CIFAR-10 (Krizhevsky 2009) is for research; these pictures came JPEG-compressed, so statistics differ a
little from the PNG original's: never compare a FID here with a published one. Ten classes of 32x32 pixels say nothing
about larger models; this is a place to compare searches."""


def flowed(text: str) -> str:
    """The same Markdown with its paragraphs filled to lines of 120; code, tables and headings stay as they are."""
    kept = ("```", "|", "#", "---")
    blocks = (block.strip("\n") for block in text.split("\n\n"))
    filled = (one if one.startswith(kept) else textwrap.fill(" ".join(one.split()), 120) for one in blocks if one)
    return "\n\n".join(filled) + "\n"


def weights_in(folder: Path) -> tuple[int, int]:
    """How many weights, and how many bytes, the model files under ``folder`` hold."""
    count = size = 0
    for path in folder.rglob("*.safetensors"):
        if path.name in (REFERENCE, START):
            continue
        size += path.stat().st_size
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                product = 1
                for side in file.get_slice(name).get_shape():
                    product *= side
                count += product
    return count, size


def training(figures: dict[str, Any]) -> str:
    """What a training took, in words."""
    threads = f"{figures['threads']} CPU thread{'s' if figures['threads'] > 1 else ''}"
    where = figures["where"] if figures["where"] != "CPU" else threads
    samples = figures["steps"] * figures["batch"]
    return (
        f"{figures['steps']:,} steps of {figures['batch']} ({samples / 50_000:.1f} passes over the 50,000 training "
        f"pictures), {figures['seconds'] / 60:.0f} minutes in bfloat16 autocast on {where}"
    )


def table(rows: dict[str, dict[str, float]]) -> str:
    """A Markdown table of evaluate.py's rows."""
    columns = {
        "fid": ("FID", "{:.2f}"), "is": ("IS", "{:.2f}"), "precision": ("precision", "{:.3f}"),
        "recall": ("recall", "{:.3f}"), "judge": ("judge agrees", "{:.1%}"), "milliseconds": ("ms a picture", "{:.0f}"),
    }  # fmt: skip
    columns = {key: column for key, column in columns.items() if any(key in row for row in rows.values())}
    lines = ["| | " + " | ".join(title for title, _ in columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [form.format(row[key]) if key in row else "" for key, (_, form) in columns.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(work: Path, models: Path) -> None:
    """Writes README.md of the three models.

    Raises:
        ValueError: a figure has not been measured yet.
    """
    path = work / "figures.json"
    figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    needed = {
        "cifar10": "rows", "cifar10-classifier": "accuracy", "cifar10-judge": "accuracy", "reference": "images",
        "start": "images",
    }  # fmt: skip
    missing = [f"{name}: {key}" for name, key in needed.items() if key not in figures.get(name, {})]
    if missing:
        raise ValueError(f"expected the figures {', '.join(missing)} in {path}: run train.py and evaluate.py first")
    cards = {"cifar10": _pipeline, "cifar10-classifier": _classifier, "cifar10-judge": _classifier}
    for name, make in cards.items():
        (models / name / "README.md").write_text(flowed(make(name, figures, models / name)), encoding="utf-8")


def _pipeline(name: str, figures: dict[str, Any], folder: Path) -> str:
    count, size = weights_in(folder)
    own = figures[name]
    config = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    tokens = (config["sample_size"] // config["patch_size"]) ** 2
    default = diffusion.MANIFEST["default"]
    steps, guidance = default["num_inference_steps"], default["guidance_scale"]
    unfinished = "" if own["done"] else " The planned schedule was not finished."
    return (
        HEADER.format(library="diffusers")
        + f"""
# noisewright/cifar10

A class-conditional flow-matching transformer of {count / 1e6:.1f} million weights ({size / 1e6:.1f} MB in float16) that
paints 32x32 pictures of CIFAR-10's ten classes: {", ".join(data.NAMES)}. It is the small counterpart of the SiT of
Ma et al. 2025, for studies of search with class-conditional models.

```python
import noisewright as nw
nw.search("noisewright/cifar10", class_label="cat", budget="16 images").best.image
```

With plain diffusers, where noisewright is installed:

```python
from noisewright.pipelines.class_flow import ClassConditionalFlowPipeline
pipe = ClassConditionalFlowPipeline.from_pretrained("src/noisewright/models/cifar10")
image = pipe(["cat"], num_inference_steps={steps}, guidance_scale={guidance}).images[0]
```

Licence of weights and code: Apache-2.0.

## How it is made

`ClassFlowTransformer`: {tokens} tokens of {config["patch_size"]}x{config["patch_size"]} pixels,
width {config["width"]}, {config["depth"]} blocks, long skips,
normalised queries and keys, EDM's preconditioning on the linear path `x_t = (1 - t) data + t noise`, two convolutions
on the pixels at the end. No autoencoder. Scheduler:
`FlowMatchEulerDiscreteScheduler`, {steps} equal steps by default. The class is left out of
{diffusion.DROPPED:.0%} of the training samples, for classifier-free guidance (by default {guidance}).

Trained for {training(own)}: `python training/cifar10/train.py diffusion --steps {own["steps"]}
--batch {own["batch"]}`. Optimiser: {own["optimiser"]}; times
logit-normal({diffusion.TIME_MEAN}, {diffusion.TIME_DEVIATION}); random flips; what is kept is the moving average of
the weights with a half-life of {own["half_life"]:,} samples.{unfinished}

## Figures

{own["images"]:,} pictures a row, all classes alike, {own["sampling_steps"]} steps, {own["dtype"]}; features of
`noisewright/cifar10-classifier`, FID against its {figures["reference"]["images"]:,} training pictures, precision and
recall (k = 3) against {own["images"]:,} test pictures; "judge agrees": the share that `noisewright/cifar10-judge` puts
into the class that was asked for. `python training/cifar10/evaluate.py --count {own["images"]} --steps
{own["sampling_steps"]} --dtype {own["dtype"]}`

{table(own["rows"])}

## Limits

By default {own["rows"][f"guidance {guidance:g}"]["judge"]:.0%} of its pictures show the judge what was asked for; of
real ones {own["rows"]["real test pictures"]["judge"]:.0%} do. Most look blurred: this is a short training. That leaves
a search much to find, and makes its figures those of a weak model.
{CAUTION}
"""
    )


def _classifier(name: str, figures: dict[str, Any], folder: Path) -> str:
    count, size = weights_in(folder)
    own, kind = figures[name], classifier.KINDS[name]
    weakest = min(own["classes"], key=own["classes"].__getitem__)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    what = {
        "cifar10-classifier": f"""Its pooled features ({config["hidden_sizes"][-1]} numbers) are what FID and its
relatives are measured with, and `{REFERENCE}` holds their mean and covariance over the
{figures["reference"]["images"]:,} training pictures, which FID is measured against; `start.safetensors` holds those of
{figures["start"]["images"]:,} unsearched samples of `noisewright/cifar10` ({figures["start"]["steps"]} steps, guidance
{figures["start"]["guidance"]:g}), which the `fid` verifier begins with.""",
        "cifar10-judge": """It is made differently from `noisewright/cifar10-classifier`, so that one can choose where
the other measures.""",
    }[name]
    unfinished = "" if own["done"] else " The planned schedule was not finished."
    extra = ", brightness and contrast, a square cut out" if kind.hole else ""
    stage = name.removeprefix("cifar10-")
    how = f"Trained for {training(own)}: `python training/cifar10/train.py {stage} --steps {own['steps']}`."
    if "teacher" in own:
        wide = own["teacher"]
        how = f"""Distilled, in {training(own)}, from a wider network that is not bundled ({wide["weights"] / 1e6:.2f}
million weights, {wide["accuracy"]:.2%} of the test pictures right), whose probabilities at temperature
{classifier.TEMPERATURE:g} it learns with a share of {classifier.LABELS:.0%} for the labels; it began with the weights
that the two have in common. `python training/cifar10/train.py {stage} --distilled-steps {own["steps"]}` trains both."""
    return (
        HEADER.format(library="transformers")
        + f"""
# noisewright/{name}

A `{config["architectures"][0]}` of {count / 1e6:.2f} million weights ({size / 1e6:.1f} MB in float16) that tells
CIFAR-10's ten classes apart, at {kind.side}x{kind.side} pixels. {what}

```python
from transformers import AutoImageProcessor, AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained("src/noisewright/models/{name}")
processor = AutoImageProcessor.from_pretrained("src/noisewright/models/{name}")
```

Licence: Apache-2.0. {how}
Random flips and shifts of up to {classifier.SHIFT} pixels{extra}; label smoothing
{classifier.SMOOTHING}.{unfinished}

## Figures

{own["accuracy"]:.2%} of the {own["images"]:,} test pictures are put into the right class (log loss
{own["log_loss"]:.3f}); by class:
{", ".join(f"{label} {share:.1%}" for label, share in own["classes"].items())}.

## Limits

It is weakest at the class {weakest}. It has never seen anything but ten classes, and calls every picture one of them.
{CAUTION}
"""
    )
