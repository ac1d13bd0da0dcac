"""``noisewright schedule fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noisewright.cli import options as common
from noisewright.cli.exits import Interrupted
from noisewright.cli.schedule import options
from noisewright.outside.files import check_output


def fit(
    ctx: typer.Context,
    method: Annotated[str, typer.Option(help="One of vrg, gits, dmn, search.", metavar="NAME", show_default=False)],
    steps: Annotated[int, typer.Option(help="Network calls of a solver that asks once a step.", min=1, metavar="K")],
    out: Annotated[Path, typer.Option(help="Where to write the schedule.", metavar="FILE", show_default=False)],
    model: common.Model = "noisewright/shapes",
    solver: options.Solver = "ddim",
    start: options.Start = "logsnr",
    errors: Annotated[Path | None, typer.Option(help="For vrg: a table of `schedule measure`.", metavar="FILE")] = None,
    gamma: Annotated[float, typer.Option(help="For vrg: half width of the trust region.", metavar="G")] = 0.01,
    penalty: Annotated[float, typer.Option(help="For vrg: weight of a moved start.", metavar="L")] = 100.0,
    target: Annotated[
        float | None, typer.Option(help="For vrg: abar of the start; by default that of --from.", metavar="A")
    ] = None,
    fixed_start: Annotated[bool, typer.Option("--fixed-start", help="For vrg and search: leave the start.")] = False,
    cost: Annotated[str, typer.Option(help="For gits: dev, l1 or l2.", metavar="NAME")] = "dev",
    factor: Annotated[float, typer.Option(help="For gits: weight of later steps.", metavar="F")] = 1.15,
    nodes: Annotated[int, typer.Option(help="For gits: nodes of the teacher.", min=4, metavar="T")] = 61,
    samples: Annotated[
        int,
        typer.Option(
            help="For gits and search: noises to fit on; search reports on as many others.", min=1, metavar="N"
        ),
    ] = 64,
    metric: Annotated[str, typer.Option(help="For search: teacher, fid or a verifier.", metavar="NAME")] = "teacher",
    evaluations: Annotated[int, typer.Option(help="For search: schedules to try.", min=2, metavar="N")] = 120,
    teacher_steps: Annotated[int, typer.Option(help="Of the many-step image.", min=2, metavar="N")] = 200,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    guidance_scale: common.Guidance = None,
    features: options.Features = None,
    reference: options.Reference = None,
    seed: options.Seed = 0,
    batch_size: options.Batch = 16,
    keep: options.Keep = options.KEEP,
    force: options.Force = False,
    device: common.Device = None,
    dtype: common.Dtype = None,
    json: common.Json = False,
) -> None:
    """Fit a schedule for a model, a solver and a number of steps; nothing is trained.

    vrg lowers the cumulative prediction error (--errors), gits picks from a many-step run of the model, dmn minimises a
    bound and asks no model, search tunes the levels on a metric.
    """
    file, given = check_output(out), options.typed(ctx)
    from noisewright.cli.libraries import warn
    from noisewright.cli.schedule.display import print_schedule
    from noisewright.trajectory.fit import FitInterrupted, fit_schedule

    with options.called(ctx, "fitting ...", json) as report:
        try:
            found = fit_schedule(**given, progress=report)
        except FitInterrupted as stopped:
            stopped.best.save(file)
            again = f"begins anew, since {stopped.why_anew}" if stopped.why_anew else "goes on"
            raise Interrupted(f"{stopped}; the best is in {out}; the same command {again}") from None
    for line in found.notes:
        warn(line)
    found.save(file)
    print_schedule(found, out, json)
