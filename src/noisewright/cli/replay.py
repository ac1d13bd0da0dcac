"""``noisewright replay``: regenerate an image from its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noisewright.cli import options, output
from noisewright.cli.exits import Ended
from noisewright.cli.libraries import hush_libraries, is_watched, share_processors
from noisewright.cli.requests import check_device
from noisewright.outside.texts import LONGEST, clean
from noisewright.schemas.typed import read_pipeline_args, takes_image


def replay(
    source: Annotated[
        str, typer.Argument(metavar="IMAGE|RUN:ID", help="A PNG, or a run and an id (or best, baseline).")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the regenerated PNG here.", metavar="FILE.png")] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the model is now; by default where it was.", metavar="ID|DIR")
    ] = None,
    device: options.Device = None,
    dtype: Annotated[str | None, typer.Option(help="By default what made the image.", metavar="NAME")] = None,
    config: options.Config = None,
    lora: Annotated[
        list[Path] | None,
        typer.Option(help="A LoRA that made it, where it is now; may be repeated.", metavar="FILE"),
    ] = None,
    pipeline_arg: Annotated[
        list[str] | None,
        typer.Option(help="An image that was given to its pipeline, where it is now; repeated.", metavar="NAME=FILE"),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Fetch the model that the image names.")] = False,
    json: options.Json = False,
) -> Ended | None:
    """Regenerate an image from its recipe.

    Says whether the pixels are the same; the exit code is 1 where they are not.
    """
    check_device(device, dtype)
    images = read_pipeline_args(pipeline_arg or [])
    for name, one in images.items():
        if not takes_image(name):
            raise ValueError(f"expected images alone as --pipeline-arg of an image that is replayed, got {name}={one}")
    share_processors()
    from noisewright import replay as replays
    from noisewright.cli import terminal

    hush_libraries()
    with terminal.waiting("regenerating ...", is_watched(json)):
        found = replays.replay(
            source, out=out, model=model, device=device, dtype=dtype, trust=trust, loras=lora or (), config=config,
            pipe_kwargs=images,
        )
    if json:
        terminal.print_json(found.to_json())
    else:
        output.print_line(clean(found.to_text(), LONGEST, lines=True))
    return None if found.identical else Ended(1)
