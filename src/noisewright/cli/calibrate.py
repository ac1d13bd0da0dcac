"""``noisewright calibrate``: what a model's settings and drafts are worth, measured once and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from noisewright.cli import options, output
from noisewright.cli.libraries import hush_libraries, is_watched, share_processors, warn
from noisewright.cli.requests import check_device
from noisewright.outside.files import check_output
from noisewright.outside.prompts import read_prompts
from noisewright.schemas.drafts import read_draft


def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As --model takes it.", show_default=False)],
    prompts: Annotated[
        Path, typer.Option(help="A prompt a line; # begins a comment.", metavar="FILE", show_default=False)
    ],
    verifier: Annotated[
        str | None, typer.Option(help="A name from `list verifiers`; by default the model's.", metavar="NAME")
    ] = None,
    draft: Annotated[
        list[str] | None,
        typer.Option(help="A draft to measure; by default a dozen; repeated.", metavar="KIND[,KEY=VALUE...]"),
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option(help="Steps to try; by default the model's; repeated.", min=1, metavar="N")
    ] = None,
    guidance_scale: Annotated[
        list[float] | None, typer.Option(help="Guidance to try; by default the model's; repeated.", metavar="G")
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Images at once to try; repeated.", min=1, metavar="N")
    ] = None,
    height: options.Height = None,
    width: options.Width = None,
    candidates: Annotated[int, typer.Option(help="Of each prompt, made every way.", min=4, metavar="N")] = 16,
    limit: Annotated[int, typer.Option(help="Only the first N prompts.", min=1, metavar="N")] = 8,
    seed: options.Seed = 0,
    out: Annotated[
        Path, typer.Option(help="The profile; one that was interrupted is gone on with.", metavar="FILE")
    ] = Path("profile.json"),
    device: options.Device = None,
    dtype: options.Dtype = None,
    json: options.Json = False,
) -> None:
    """Measure what steps, guidance, batch sizes and drafts are worth on a model, for `generate --profile`."""
    check_output(out)
    check_device(device, dtype)
    read_prompts(prompts, comments=True)
    for one in draft or []:
        read_draft(one)
    share_processors()
    from noisewright import calibrating
    from noisewright.cli import terminal

    hush_libraries()
    with terminal.waiting(f"loading {model} ...", is_watched(json)) as tell:
        found = calibrating.calibrate(
            model, prompts, verifier=verifier, drafts=draft, num_inference_steps=steps or (),
            guidance_scale=guidance_scale or (), batch_size=batch_size or (), height=height, width=width,
            candidates=candidates, limit=limit, seed=seed, out=out, progress=tell, device=device, dtype=dtype,
        )  # fmt: skip
    if json:
        terminal.print_json({**found, "file": str(out)})
        return
    for one in found["settings"]:
        _print(one)
    for text in found["warnings"]:
        warn(text)
    output.print_line(f"written to {out}")


def _print(row: dict[str, Any]) -> None:
    """One setting and its drafts."""
    from noisewright.cli import terminal

    scale = "" if row["guidance_scale"] is None else f", guidance {row['guidance_scale']:g}"
    title = (f"{row['num_inference_steps']} steps{scale}, {row['batch_size']} at once: {row['seconds_each']:.4g} s an "
             f"image, score {row['mean']:.4g} with deviation {row['deviation']:.4g}")  # fmt: skip
    each = max(row["seconds_each"], 1e-9)
    rows = [[one["draft"], f"{one['correlation']:.2f}", f"{one['seconds_each'] / each:.2f}"] for one in row["drafts"]]
    head = ["draft", "rank correlation", "of the seconds"]
    terminal.out().print(terminal.table(head, rows, right=[1, 2], title=title))
