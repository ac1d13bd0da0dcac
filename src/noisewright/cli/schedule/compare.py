"""``noisewright schedule compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noisewright.cli import options as common
from noisewright.cli.schedule import options
from noisewright.outside.files import check_output

PLOTS = (".png", ".pdf", ".svg")


def compare(
    ctx: typer.Context,
    schedules: Annotated[list[str], typer.Argument(metavar="A B ...", help="Schedule files, or names of rules.")],
    model: common.Model = "noisewright/shapes",
    metric: Annotated[
        str, typer.Option(help="With commas: teacher, fid, names of verifiers.", metavar="NAMES")
    ] = "teacher",
    samples: Annotated[int, typer.Option(help="Noises, the same for all.", min=2, metavar="N")] = 64,
    steps: Annotated[
        int | None, typer.Option(help="For names of rules; by default those of the first file.", min=1, metavar="K")
    ] = None,
    solver: Annotated[
        str | None, typer.Option(help="For all; by default each file's own, and ddim for names.", metavar="NAME")
    ] = None,
    teacher_steps: Annotated[int, typer.Option(help="Of the many-step image.", min=2, metavar="N")] = 200,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    guidance_scale: common.Guidance = None,
    features: options.Features = None,
    reference: options.Reference = None,
    keep_ends: Annotated[
        bool, typer.Option("--keep-ends", help="Leave ends above the clean image, as of pipeline, where they are.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the table here.", metavar="FILE.png")] = None,
    seed: options.Seed = 2_000_000,
    batch_size: options.Batch = 16,
    keep: options.Keep = options.KEEP,
    force: options.Force = False,
    device: common.Device = None,
    dtype: common.Dtype = None,
    json: common.Json = False,
) -> None:
    """Compare schedules on the same noises: a table with 95 % intervals, by default on seeds that no fit has seen.

    teacher is the distance to the many-step image of the same noise (lower is better); a change is against the first.
    All rows end at the clean image, so that only their levels differ.
    """
    picture, given = _check_plot(plot), options.typed(ctx)
    from noisewright.cli import terminal
    from noisewright.cli.schedule.display import print_comparison
    from noisewright.trajectory.compare import compare_schedules

    with options.called(ctx, "comparing ...", json) as report:
        found = compare_schedules(**given, progress=report)
    if json:
        terminal.print_json(found.to_json())
    else:
        print_comparison(found)
    if picture is not None:
        found.plot(picture)


def _check_plot(plot: Path | None) -> Path | None:
    if plot is None:
        return None
    if plot.suffix not in PLOTS:
        raise ValueError(f"expected a --plot that ends in {', '.join(PLOTS)}, got {plot}")
    return check_output(plot, "--plot")
