"""``noisewright check``: what holds of a model, before anything is searched with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from noisewright.cli import options, output
from noisewright.cli.exits import Ended
from noisewright.cli.libraries import hush_libraries, is_watched, share_processors, warn
from noisewright.cli.requests import AUTO, check_device, check_finite
from noisewright.schemas.typed import read_pipeline_args

if TYPE_CHECKING:
    from noisewright.checking import Checked


def check(
    first: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="As --model takes it, unless that is given.", show_default=False),
    ] = None,
    second: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="By default some prompt, or class 0.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A bundled model, a pipeline directory, a hub id or a .safetensors file.", metavar="ID|DIR|FILE"
        ),
    ] = None,
    variant: options.Variant = None,
    config: options.Config = None,
    lora: options.Lora = None,
    class_label: options.ClassLabel = None,
    steps: options.Steps = None,
    guidance_scale: options.Guidance = None,
    negative_prompt: options.Negative = None,
    height: options.Height = None,
    width: options.Width = None,
    pipeline_arg: options.PipelineArg = None,
    device: options.Device = None,
    dtype: options.DtypeOrAuto = None,
    seconds: Annotated[
        float, typer.Option(help="About how long batches are tried; 0: one image only.", min=0, metavar="S")
    ] = 60.0,
    json: options.Json = False,
) -> Ended | None:
    """Hold a model to its own plain call, and measure what a search relies on.

    Prints what a bug is filed with: parity, segments, batches, previews, gradients, speed, memory, versions; no texts,
    directories or keys. The exit code is 1 where the model cannot be searched.
    """
    if model is not None and second is not None:
        raise ValueError(f"expected one model, got --model {model} and {first}")
    name, prompt = (first, second) if model is None else (model, first)
    if name is None:
        raise ValueError("expected a MODEL, got none (see: check --help)")
    check_finite(guidance_scale=guidance_scale, seconds=seconds)
    check_device(device, dtype, AUTO)
    share_processors()
    from noisewright import checking
    from noisewright.cli import terminal

    hush_libraries()
    settings = {
        "class_label": class_label, "num_inference_steps": steps, "guidance_scale": guidance_scale,
        "negative_prompt": negative_prompt, "height": height, "width": width, "device": device, "dtype": dtype,
        "variant": variant, "config": config, "loras": lora or [],
    }  # fmt: skip
    with terminal.waiting(f"loading {name} ...", is_watched(json)) as tell:
        found = checking.check(
            name, prompt, progress=tell, seconds=seconds, **settings, **read_pipeline_args(pipeline_arg or [])
        )
    if json:
        terminal.print_json(found.to_json())
    else:
        _print(found)
    return None if found.can_be_searched else Ended(1)


def _print(found: Checked) -> None:
    from noisewright.cli import terminal

    for text in found.warnings:
        warn(text)
    about = found.about
    shown = {
        "model": found.model, "pipeline": found.pipeline,
        "scheduler": about.get("components", {}).get("scheduler", {}).get("class", {}).get("name"),
        "dtype": about.get("dtype"), "device": about.get("device"),
        "steps": None if found.measured is None else found.measured["steps"],
    }  # fmt: skip
    console = terminal.out()
    for name, value in shown.items():
        if value is not None:
            console.print(terminal.shown(f"{name:<10}{value}"))
    if found.rows():
        console.print(terminal.table(["what", "holds", ""], found.rows()))
    for note in (found.verdict or {}).get("notes", []):
        console.print(terminal.shown(f"note: {note}"))
    if found.refused is not None:
        console.print(terminal.shown(f"refused: {found.refused}"))
    output.print_line(", ".join(f"{name} {version}" for name, version in found.versions.items()))
    machine = ", ".join(f"{name} {value}" for name, value in found.machine.items() if value is not None)
    output.print_line(machine)
