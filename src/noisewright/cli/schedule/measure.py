"""``noisewright schedule measure``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisewright.cli import options as common
from noisewright.cli import output
from noisewright.cli.schedule import options
from noisewright.outside.files import check_output

if TYPE_CHECKING:
    from noisewright.trajectory.progress import Progress

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A bundled model, a pipeline directory or a hub id.")
]


def measure(
    ctx: typer.Context,
    model: ModelArgument,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Images that the model was made for, or self for its own; may be repeated.", metavar="PATH|self"
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Read the directories in directories of images too.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where to write the table.", metavar="FILE")] = Path("errors.json"),
    levels: Annotated[int, typer.Option(help="How many noise levels, even in time.", min=5, metavar="N")] = 50,
    count: Annotated[int, typer.Option(help="Images at most.", min=2, metavar="N")] = 1000,
    stride: Annotated[
        int, typer.Option(help="Ask of each image at every Nth level only; 1 is all.", min=1, metavar="N")
    ] = 2,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    guidance_scale: Annotated[
        float, typer.Option(help="Of the prediction that is measured; 1 is the network's own.", metavar="G")
    ] = 1.0,
    seed: options.Seed = 0,
    batch_size: options.Batch = 64,
    keep: options.Keep = options.KEEP,
    device: common.Device = None,
    dtype: common.Dtype = None,
    json: common.Json = False,
) -> None:
    """Measure how wrong a model's noise prediction is at each noise level, and how normal that error is.

    What images show is read from .txt or .caption files beside them or a column prompt, caption, text or label, else
    from --prompt; without any, the empty prompt. MODEL and the table go into every schedule that is fitted from it.
    """
    file, given = check_output(out), options.typed(ctx)
    from noisewright.cli import terminal
    from noisewright.cli.schedule.display import print_errors, table_json
    from noisewright.trajectory.measure_model import measure_schedule_errors

    with options.called(ctx, "measuring ...", json) as report:

        def tell(progress: Progress) -> None:
            if progress.note and progress.done == 0:
                terminal.say(f"{progress.note} that an earlier command measured")
            report(progress)

        table = measure_schedule_errors(**given, out=file, progress=tell)
    if json:
        terminal.print_json({**table_json(table), "file": str(out)})
    else:
        print_errors(table)
        output.print_line(f"written to {out}")
