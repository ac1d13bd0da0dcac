"""``noisewright schedule``: measure a model's prediction errors, fit levels, look at them, compare them.

As in :mod:`noisewright.cli`, nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisewright.cli import output
from noisewright.cli import schedule_show as shown
from noisewright.cli.exits import Interrupted
from noisewright.cli.libraries import hush_libraries, is_watched
from noisewright.cli.requests import check_device
from noisewright.outside import bounds
from noisewright.outside.files import check_directory, check_output
from noisewright.registry.located import located_verifiers
from noisewright.schemas.reading import is_file, short

if TYPE_CHECKING:
    from noisewright.diffusion.schedule import Schedule
    from noisewright.samplers.protocol import Sampler
    from noisewright.trajectory.errors import ErrorTable
    from noisewright.trajectory.kept import Kept
    from noisewright.trajectory.metrics import Metric, Subject
    from noisewright.trajectory.path import ModelPath
    from noisewright.trajectory.vrg import Fitted

METHODS = ("vrg", "gits", "dmn", "search")
TAKEN_BY = {
    "errors": ("vrg",), "gamma": ("vrg",), "penalty": ("vrg",), "target": ("vrg",),
    "start": ("vrg", "search"), "fixed_start": ("vrg", "search"),
    "cost": ("gits",), "factor": ("gits",), "nodes": ("gits",),
    "samples": ("gits", "search"), "prompt": ("gits", "search"), "prompts": ("gits", "search"),
    "guidance_scale": ("gits", "search"),
    "metric": ("search",), "evaluations": ("search",), "teacher_steps": ("search",), "features": ("search",),
    "reference": ("search",),
}  # fmt: skip
"""Parameters of ``fit`` that some methods have no use for, with those that take them."""

FEWEST_STEPS = {"dmn": 2, "search": 2}

MOST: dict[str, int] = {
    "steps": bounds.MOST_STEPS, "teacher_steps": bounds.MOST_STEPS, "levels": bounds.MOST_LEVELS,
    "nodes": bounds.MOST_LEVELS + 1, "samples": bounds.MOST_SAMPLES, "evaluations": bounds.MOST_EVALUATIONS,
    "batch_size": bounds.MOST_IN_A_BATCH, "seed": bounds.LARGEST_FIRST_SEED,
}  # fmt: skip
"""What the numbers of these commands may be at most."""

MOST_PROMPT_BYTES = 100 * 2**20
"""Of a file of prompts."""

SELF = "self"
SPARE_SEEDS = 1_000_000
"""Tuning uses the seeds from --seed, the report those from this much later."""

app = typer.Typer(
    help="Better noise levels: measure, fit, show, compare.",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A bundled model, a pipeline directory or a hub id.")
]
Model = Annotated[str, typer.Option(help="A bundled model, a pipeline directory or a hub id.", metavar="ID|DIR")]
Prompt = Annotated[
    list[str] | None,
    typer.Option(help="A prompt, or a class of a class-conditional model; may be repeated.", metavar="TEXT"),
]
Prompts = Annotated[Path | None, typer.Option(help="A file with a prompt (or a class) a line.", metavar="FILE")]
Guidance = Annotated[float | None, typer.Option(help="As in diffusers; by default the model's.", metavar="G")]
Solver = Annotated[str, typer.Option(help="A name from `list solvers`.", metavar="NAME")]
Features = Annotated[str | None, typer.Option(help="For fid: the feature network.", metavar="ID|DIR")]
Reference = Annotated[Path | None, typer.Option(help="For fid: saved statistics of real images.", metavar="FILE")]
Seed = Annotated[int, typer.Option(help="The first seed.", min=0, metavar="S")]
Batch = Annotated[int, typer.Option(help="Images at once.", min=1, metavar="N")]
Force = Annotated[bool, typer.Option("--force", help="Take a schedule or table that was made for another model.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; by default the best there is.", metavar="NAME")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16.", metavar="NAME")]
Keep = Annotated[
    Path,
    typer.Option(
        help="Where what the model was asked is kept: a killed command goes on, a later one asks for less.",
        metavar="DIR",
    ),
]
KEEP = Path("runs/schedules")

RECENT = 16
"""Samplers of conditions, with their encoded prompts, that are held at a time."""

MOST_LISTED = 20
"""Prompts that a file lists; of more it has the number and a hash."""

PLOTS = (".png", ".pdf", ".svg")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@dataclass(frozen=True)
class Loaded:
    """A pipeline, and the samplers of its prompts.

    Attributes:
        pipe: the pipeline.
        name: as it was asked for.
        card: its model card.
        guidance_scale: of all samplers.
        steps: of the pipeline's own schedule.
    """

    pipe: Any
    name: str
    card: Mapping[str, Any]
    guidance_scale: float | None
    steps: int

    def sampler(self, condition: str) -> Sampler:
        """The sampler of a prompt or a class, by ddim: native schedulers have levels in their own coordinates."""
        from noisewright.diffusion.solvers import Ddim
        from noisewright.samplers.classes import is_class_conditional
        from noisewright.samplers.pipeline import PipelineSampler

        given: dict[str, Any] = {"class_label": condition} if is_class_conditional(self.pipe) else {"prompt": condition}
        return PipelineSampler(
            self.pipe,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance_scale,
            model=self.name,
            solver=Ddim(),
            **given,
        )


@app.command()
def measure(
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
    prompt: Prompt = None,
    prompts: Prompts = None,
    guidance_scale: Annotated[
        float, typer.Option(help="Of the prediction that is measured; 1 is the network's own.", metavar="G")
    ] = 1.0,
    seed: Seed = 0,
    batch_size: Batch = 64,
    keep: Keep = KEEP,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Measure how wrong a model's noise prediction is at each noise level, and how normal that error is.

    What images show is read from .txt or .caption files beside them or a column prompt, caption, text or label, else
    from --prompt; without any, the empty prompt. MODEL and the table go into every schedule that is fitted from it.
    """
    given = images or [SELF]
    _check_sizes(levels=levels, batch_size=batch_size, seed=seed, samples=count if given == [SELF] else 0)
    _check_images(given)
    file, keep = check_output(out), check_directory(keep, "--keep")
    from noisewright.trajectory import measure as measuring

    measuring.check_count(count, stride)
    wanted = _conditions(prompt, prompts)
    loaded = _loaded(model, guidance_scale, device, dtype)
    from noisewright.cli import terminal
    from noisewright.trajectory import images as sources
    from noisewright.trajectory.kept import Kept, depends

    known = wanted or _defaults(loaded)
    make = lru_cache(maxsize=RECENT)(loaded.sampler)
    paths = [Path(one) for one in given if one != SELF]
    begun = measuring.Progress(
        Kept(keep), depends(make(known[0])), known, sources.stamps(paths, recursive), count, batch_size, levels, stride,
        seed,
    )  # fmt: skip
    if begun.done:
        terminal.say(f"going on after {terminal.plural(begun.done, 'image')} that an earlier command measured")
    if given == [SELF]:
        guided = lru_cache(maxsize=RECENT)(_with_guidance(loaded, None).sampler)
        examples = sources.own_samples(guided, known, count=count, batch=batch_size, seed=seed, skip=begun.done)
    else:
        default = known[0] if len(known) == 1 else None
        examples = sources.from_files(
            paths, make, default, count=count, batch=batch_size, skip=begun.done, recursive=recursive
        )
    with _going_on(), terminal.waiting("measuring ...", _watched(json)) as tell:
        table = measuring.measure(
            make, examples, levels=levels, stride=stride, seed=seed, source=", ".join(given),
            settings={"guidance_scale": guidance_scale, "count": count, "prompts": len(known)}, begun=begun,
            progress=lambda n: tell(f"measuring: {n} of {count} images"),
        )  # fmt: skip
    table.save(file)
    begun.finish()
    if json:
        terminal.print_json({**shown.table_json(table), "file": str(out)})
    else:
        shown.print_errors(table)
        output.print_line(f"written to {out}")


@app.command()
def fit(
    ctx: typer.Context,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.", metavar="NAME", show_default=False)],
    steps: Annotated[int, typer.Option(help="Network calls of a solver that asks once a step.", min=1, metavar="K")],
    out: Annotated[Path, typer.Option(help="Where to write the schedule.", metavar="FILE", show_default=False)],
    model: Model = "noisewright/shapes",
    solver: Solver = "ddim",
    start: Annotated[
        str,
        typer.Option(
            "--from", help="What to begin with: a name from `list schedules`, or a file.", metavar="NAME|FILE"
        ),
    ] = "logsnr",
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
    prompt: Prompt = None,
    prompts: Prompts = None,
    guidance_scale: Guidance = None,
    features: Features = None,
    reference: Reference = None,
    seed: Seed = 0,
    batch_size: Batch = 16,
    keep: Keep = KEEP,
    force: Force = False,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Fit a schedule for a model, a solver and a number of steps; nothing is trained.

    vrg lowers the cumulative prediction error (--errors), gits picks from a many-step run of the model, dmn minimises a
    bound and asks no model, search tunes the levels on a metric.
    """
    from noisewright import registry
    from noisewright.cli import terminal

    if method not in METHODS:
        raise ValueError(registry.unknown("method", method, list(METHODS)))
    _check_taken(ctx, method)
    _check_sizes(
        steps=steps, nodes=nodes, samples=samples, evaluations=evaluations, teacher_steps=teacher_steps, seed=seed,
        batch_size=batch_size,
    )  # fmt: skip
    if method == "vrg" and errors is None:
        raise ValueError("expected --errors FILE with --method vrg, got none")
    _check_sizes(
        steps=steps, nodes=nodes, samples=samples, evaluations=evaluations, teacher_steps=teacher_steps, seed=seed,
        batch_size=batch_size,
    )  # fmt: skip
    rule = _solver(solver)
    _check_start(start, steps)
    file, keep = check_output(out), check_directory(keep, "--keep")
    from noisewright.trajectory import gits, vrg

    vrg.check_settings(gamma=gamma, penalty=penalty, target=target)
    if method == "gits":
        gits.check_settings(steps, nodes=nodes, cost=cost, factor=factor)
    elif method == "search" and len(_check_metrics(metric, features, reference)) != 1:
        raise ValueError(f"expected one --metric to search by, got {short(metric)}")
    if method == "dmn":
        from noisewright.trajectory.dmn import MOST_DMN_STEPS

        bounds.at_most(MOST_DMN_STEPS, **{"--steps": steps})
    if steps < FEWEST_STEPS.get(method, 1):
        raise ValueError(f"expected at least {FEWEST_STEPS[method]} steps for {method}, got {steps}")
    table = _read_errors(errors)
    wanted = _conditions(prompt, prompts)
    loaded = _loaded(model, guidance_scale, device, dtype)
    from noisewright.trajectory.files import ScheduleFile, identity, write_schedule_file
    from noisewright.trajectory.kept import Kept
    from noisewright.trajectory.path import path_of, with_schedule

    known = wanted or (_asked(loaded) if method in ("gits", "search") else _defaults(loaded))
    sampler = loaded.sampler(known[0])
    begun = _schedule(start, sampler, steps, force)
    asked = SimpleNamespace(**ctx.params)
    at = Setting(loaded, known, sampler, begun, path_of(with_schedule(sampler, begun, rule)), rule, Kept(keep))

    def written(found: Fitted, made_of: dict[str, Any]) -> ScheduleFile:
        made_of = {"method": method, "seed": seed, **made_of}
        made = ScheduleFile(found.schedule, rule.name, identity(sampler), made_of, found.figures)
        write_schedule_file(file, made)
        return made

    with _going_on(), terminal.waiting("fitting ...", _watched(json)) as tell:
        if method == "vrg":
            assert table is not None  # noqa: S101 - see above
            found, made_of = _by_vrg(asked, at, table)
        elif method == "search":
            found, made_of = _by_search(asked, at, tell, written)
        else:
            found, made_of = (_by_dmn if method == "dmn" else _by_gits)(asked, at)
    for line in _notes(found, made_of):
        terminal.say(f"warning: {line}")
    shown.schedule(written(found, made_of), out, json)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A schedule of `fit`.")], json: Json = False
) -> None:
    """Show a schedule: its levels as a table and a picture, what it was made for and how, and what diffusers takes."""
    from noisewright.trajectory.files import read_schedule_file

    shown.schedule(read_schedule_file(file), file, json)


@app.command()
def compare(
    schedules: Annotated[list[str], typer.Argument(metavar="A B ...", help="Schedule files, or names of rules.")],
    model: Model = "noisewright/shapes",
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
    prompt: Prompt = None,
    prompts: Prompts = None,
    guidance_scale: Guidance = None,
    features: Features = None,
    reference: Reference = None,
    keep_ends: Annotated[
        bool, typer.Option("--keep-ends", help="Leave ends above the clean image, as of pipeline, where they are.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the table here.", metavar="FILE.png")] = None,
    seed: Seed = 2 * SPARE_SEEDS,
    batch_size: Batch = 16,
    keep: Keep = KEEP,
    force: Force = False,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Compare schedules on the same noises: a table with 95 % intervals, by default on seeds that no fit has seen.

    teacher is the distance to the many-step image of the same noise (lower is better); a change is against the first.
    All rows end at the clean image, so that only their levels differ.
    """
    from noisewright.cli import terminal
    from noisewright.diffusion.schedule import ending_clean
    from noisewright.trajectory.files import read_schedule_file

    _check_sizes(samples=samples, steps=steps, teacher_steps=teacher_steps, seed=seed, batch_size=batch_size)
    files = {one: read_schedule_file(one) for one in schedules if _is_file(one)}
    count = steps or next((one.schedule.steps for one in files.values()), None)
    if count is None:
        raise ValueError("expected --steps with names of schedules alone, got none")
    for one in schedules:
        if one not in files:
            _check_rule(one)
    rules = {one: _solver(solver or (files[one].solver if one in files else "ddim")) for one in schedules}
    _check_metrics(metric, features, reference)
    picture, keep = _check_plot(plot), check_directory(keep, "--keep")
    wanted = _conditions(prompt, prompts)
    loaded = _loaded(model, guidance_scale, device, dtype)
    from noisewright.diffusion.solvers import nfe
    from noisewright.trajectory import metrics
    from noisewright.trajectory.kept import Kept

    known, kept = wanted or _asked(loaded), Kept(keep)
    sampler = loaded.sampler(known[0])
    lengths = {one: file.schedule.steps for one, file in files.items()}
    made = {one: _schedule(one, sampler, lengths.get(one, count), force) for one in schedules}
    ends = {one: made[one].sigma[-1] / made[one].alpha[-1] for one in schedules}
    if not keep_ends:
        made = {one: ending_clean(schedule) for one, schedule in made.items()}
    by = _metrics(metric, teacher_steps, features, reference, device, kept)
    some = metrics.subjects(loaded.sampler, known, samples, seed=seed, batch=batch_size)
    values = {}
    with _going_on(), terminal.waiting("comparing ...", _watched(json)) as tell:
        for number, one in enumerate(schedules):
            tell(f"comparing: {one}, {number + 1} of {len(schedules)}")
            values[one] = metrics.measured(made[one], rules[one], some, by, kept)
    _say_what_is_not_kept(by, kept)
    groups = metrics.groups_of(some)
    rows = [
        {"schedule": one, "solver": rules[one].name, "steps": made[one].steps,
         "nfe": nfe(rules[one], made[one], 0, made[one].steps),
         "metrics": _compared(values[one], values[schedules[0]] if one != schedules[0] else None, by, groups),
         "end": made[one].sigma[-1] / made[one].alpha[-1], "end_as_made": ends[one]}
        for one in schedules
    ]  # fmt: skip
    about = {"samples": samples, "seed": seed, "prompts": len({one.prompt for one in some}),
             "intervals_over": "noises" if groups is None else "prompts"}  # fmt: skip
    if json:
        terminal.print_json({**about, "schedules": rows})
    else:
        shown.print_comparison(rows, by, about, keep_ends)
    if picture is not None:
        shown.plot(rows, by, picture)


# The methods of fit: a schedule, and what is told of how it was made


@dataclass(frozen=True)
class Setting:
    """What a schedule is fitted for.

    Attributes:
        loaded: the model.
        known: prompts or classes.
        sampler: of the first of them.
        begun: the schedule of ``--from``.
        path: the model's levels, to where that ends.
        rule: the solver.
        kept: what the model was asked before.
    """

    loaded: Loaded
    known: list[str]
    sampler: Sampler
    begun: Schedule
    path: ModelPath
    rule: Any
    kept: Kept

    @property
    def guidance(self) -> float | None:
        return self.loaded.guidance_scale


Made = tuple["Fitted", dict[str, Any]]


def _by_vrg(asked: Any, at: Setting, table: ErrorTable) -> Made:
    from noisewright.trajectory import vrg
    from noisewright.trajectory.files import identity

    _check_table(table, identity(at.sampler), asked.force)
    found = vrg.fit_vrg(
        at.begun, table, at.path, gamma=asked.gamma, penalty=asked.penalty, target=asked.target,
        order=vrg.order_of(at.rule), fixed_start=asked.fixed_start,
    )  # fmt: skip
    return found, {
        "from": asked.start, "gamma": asked.gamma, "penalty": asked.penalty, "target": asked.target,
        "fixed_start": asked.fixed_start, "errors": str(asked.errors),
        "errors_of": {"images": table.images, "source": table.source, **table.settings},
    }  # fmt: skip


def _by_dmn(asked: Any, at: Setting) -> Made:
    from noisewright.trajectory import dmn

    power = 2.0 if getattr(at.loaded.pipe, "vae", None) is not None else 1.0
    return dmn.fit_dmn(at.path, asked.steps, power=power, seed=asked.seed), {"power": power}


def _by_gits(asked: Any, at: Setting) -> Made:
    from noisewright.trajectory import gits, metrics

    some = metrics.subjects(at.loaded.sampler, at.known, asked.samples, seed=asked.seed, batch=asked.batch_size)
    costs, levels, path = gits.teacher_costs(_on(some, at.begun, at.rule), nodes=asked.nodes, cost=asked.cost,
                                             kept=at.kept)  # fmt: skip
    found = gits.fit_gits(costs, levels, path, asked.steps, factor=asked.factor)
    return found, {
        "cost": asked.cost, "factor": asked.factor, "nodes": asked.nodes, "samples": asked.samples,
        "guidance_scale": at.guidance, "prompts": _listed(at.known),
    }  # fmt: skip


def _by_search(asked: Any, at: Setting, tell: Callable[[str], None], written: Callable[..., Any]) -> Made:
    """Several prompts are dealt out, one to tune on, the next to report on. Ctrl-C leaves the best in the file."""
    from noisewright.samplers.classes import is_class_conditional
    from noisewright.trajectory import metrics, tune
    from noisewright.verifiers.protocol import is_lasting

    by = _metrics(asked.metric, asked.teacher_steps, asked.features, asked.reference, asked.device, at.kept)[0]
    shared = len(at.known) == 1 or is_class_conditional(at.loaded.pipe)
    sides = (at.known, at.known) if shared else (at.known[::2], at.known[1::2])
    tuning, reporting = (
        metrics.subjects(at.loaded.sampler, side, asked.samples, seed=first, batch=asked.batch_size)
        for side, first in zip(sides, (asked.seed, asked.seed + SPARE_SEEDS), strict=True)
    )
    made_of = {
        "from": asked.start, "metric": asked.metric, "samples": asked.samples, "fixed_start": asked.fixed_start,
        "evaluations": asked.evaluations, "teacher_steps": asked.teacher_steps, "guidance_scale": at.guidance,
        "prompts": _listed(sides[0]), "report_prompts": _listed(sides[1]),
    }  # fmt: skip
    try:
        found = tune.tune(
            at.begun, at.path, at.rule, by, tuning, reporting, evaluations=asked.evaluations, seed=asked.seed,
            free_start=not asked.fixed_start, kept=at.kept,
            progress=lambda n, best: tell(f"fitting: {n} of {asked.evaluations} schedules, best {best:.4g}"),
        )  # fmt: skip
    except tune.Interrupted as stopped:
        written(stopped.best, made_of)
        count = stopped.best.figures["evaluations"]
        raise Interrupted(
            f"interrupted after {count} of {asked.evaluations} schedules; the best is in {asked.out}; the same command "
            + ("goes on" if is_lasting(by) else f"begins anew, since nothing says when {by.name} changes")
        ) from None
    _say_what_is_not_kept([by], at.kept)
    return found, made_of


def _listed(prompts: Sequence[str]) -> Any:
    """Prompts for a file: all of a few, else how many and their hash."""
    if len(prompts) <= MOST_LISTED:
        return list(prompts)
    return {"count": len(prompts), "sha256": hashlib.sha256("\n".join(prompts).encode()).hexdigest()}


# Behind the commands


@contextmanager
def _going_on() -> Iterator[None]:
    """Tells what Ctrl-C leaves."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command goes on where it was") from None


def _check_sizes(**given: int | None) -> None:
    """Refuse numbers that nothing can be made of, before anything is."""
    for name, value in given.items():
        bounds.at_most(MOST[name], **{f"--{name.replace('_', '-')}": value})


def _check_plot(plot: Path | None) -> Path | None:
    if plot is None:
        return None
    if plot.suffix not in PLOTS:
        raise ValueError(f"expected a --plot that ends in {', '.join(PLOTS)}, got {plot}")
    return check_output(plot, "--plot")


def _loaded(model: str, guidance: float | None, device: str | None, dtype: str | None) -> Loaded:
    from noisewright import registry

    if guidance is not None and not abs(guidance) < math.inf:
        raise ValueError(f"expected a finite --guidance-scale, got {guidance}")
    check_device(device, dtype)
    name = registry.find_model(model)
    hush_libraries()
    from noisewright.samplers.pipeline import load_pipeline

    pipe = load_pipeline(name, device=device, dtype=dtype)
    card = registry.card(name)
    default = card.get("default", {})
    scale = guidance if guidance is not None else default.get("guidance_scale")
    return Loaded(pipe, model, card, scale, int(default.get("num_inference_steps", 25)))


def _with_guidance(loaded: Loaded, guidance: float | None) -> Loaded:
    """The same pipeline at its own guidance."""
    own = loaded.card.get("default", {}).get("guidance_scale") if guidance is None else guidance
    return Loaded(loaded.pipe, loaded.name, loaded.card, own, loaded.steps)


def _conditions(prompt: Sequence[str] | None, prompts: Path | None) -> list[str]:
    if prompt and prompts is not None:
        raise ValueError("expected --prompt or --prompts, got both")
    if prompts is None:
        bounds.no_longer(**{"--prompt": max(prompt or [""], key=len)})
        return list(prompt or [])
    from noisewright.outside.reading import read_text

    if prompts.is_file() and prompts.stat().st_size > MOST_PROMPT_BYTES:
        raise ValueError(f"expected a file of at most {MOST_PROMPT_BYTES >> 20} MB of prompts, got {prompts}")
    lines = read_text(prompts, "a file with a prompt a line").split("\n")
    found = [line.strip() for line in lines if line.strip()]
    bounds.no_more(bounds.MOST_PROMPTS, f"prompts in {prompts}", found)
    bounds.no_longer(prompt=max(found, key=len, default=""))
    if not found:
        raise ValueError(f"expected a prompt a line in {prompts}, got an empty file")
    return found


def _asked(loaded: Loaded) -> list[str]:
    """Every class; a text-to-image model must be told what to make, or its guidance does nothing.

    Raises:
        ValueError: for a model of prompts.
    """
    from noisewright.samplers.classes import is_class_conditional

    if "prompt" in signature(type(loaded.pipe).__call__).parameters and not is_class_conditional(loaded.pipe):
        raise ValueError(
            "expected --prompt or --prompts: with the empty prompt guidance does nothing (--prompt '' asks for that), "
            "got none"
        )
    return _defaults(loaded)


def _defaults(loaded: Loaded) -> list[str]:
    """Every class of a class-conditional model; else the empty prompt."""
    from noisewright.samplers.classes import count_classes, is_class_conditional, labels_of

    if not is_class_conditional(loaded.pipe):
        return [""]
    return [str(number) for number in range(count_classes(loaded.pipe, labels_of(loaded.pipe)) or 1)]


def _check_images(given: Sequence[str]) -> None:
    if SELF in given and len(given) > 1:
        raise ValueError(f"expected --images self alone, got {', '.join(given)}")
    for one in given:
        if one != SELF and not Path(one).exists():
            raise ValueError(
                f"expected --images as a directory, a .parquet file or self, got {one}, which is not there"
            )


def _solver(name: str) -> Any:
    from noisewright import registry

    made = registry.make_solver(name)
    if made is None:
        raise ValueError("expected a solver of noisewright's for custom levels (ddim), got 'pipeline'")
    if made.stochastic:
        raise ValueError(f"expected a deterministic solver, got {name}")
    return made


def _check_taken(ctx: typer.Context, method: str) -> None:
    """Refuse options that the method would not look at."""
    options = {one.name: one.opts[0] for one in ctx.command.params if one.name is not None}
    for name, methods in TAKEN_BY.items():
        source = ctx.get_parameter_source(name)
        if method not in methods and source is not None and source.name == "COMMANDLINE":
            able = " or ".join(methods)
            raise ValueError(f"expected {options[name]} with --method {able} only, got it with --method {method}")


def _check_start(name: str, steps: int) -> None:
    """Refuse an unknown start, or a file of another length."""
    from noisewright.trajectory.files import read_schedule_file

    if not _is_file(name):
        _check_rule(name)
        return
    found = read_schedule_file(name).schedule.steps
    if found != steps:
        raise ValueError(f"expected a schedule of {steps} steps, got {found} in {name}")


def _read_errors(file: Path | None) -> ErrorTable | None:
    if file is None:
        return None
    from noisewright.trajectory.errors import ErrorTable

    return ErrorTable.load(file)


def _check_table(table: ErrorTable, about: Mapping[str, Any], force: bool) -> None:
    from noisewright.samplers.fingerprint import same_model

    for name in ("fingerprint", "prediction"):
        if not force and not same_model(table.identity.get(name), about.get(name)):
            raise ValueError(
                f"expected an error table of {about.get('model')} ({name} {about.get(name)}), got one of "
                f"{table.identity.get('model')} ({name} {table.identity.get(name)}): --force takes it all the same"
            )


def _is_file(name: str) -> bool:
    return name.endswith(".json") or is_file(name)


def _check_rule(name: str) -> None:
    from noisewright import registry
    from noisewright.diffusion.schedules import RULES

    valid = [*RULES, "pipeline"]
    if name not in valid:
        raise ValueError(registry.unknown("schedule", name, valid) + " (or a file of `schedule fit`)")


def _schedule(name: str, sampler: Sampler, steps: int, force: bool) -> Any:
    """The levels of a file or of a named rule for a sampler's model."""
    from noisewright.trajectory.files import load_for

    if _is_file(name):
        return load_for(name, sampler, force)
    _check_rule(name)
    if name == "pipeline":
        return sampler.with_steps(steps).schedule
    from noisewright.diffusion.schedules import named_schedule

    clock = sampler.schedule.clock
    if clock is None:
        raise ValueError(f"expected a model whose scheduler tells the time of a noise level for schedule {name!r}")
    return named_schedule(name, clock, steps)


def _on(some: Sequence[Subject], schedule: Any, rule: Any) -> list[tuple[Sampler, Sequence[int]]]:
    """Samplers on a schedule, whose end the teacher's grid takes over, with their seeds."""
    from noisewright.trajectory.path import with_schedule

    held: dict[int, Any] = {}
    for one in some:
        if id(one.sampler) not in held:
            held[id(one.sampler)] = with_schedule(one.sampler, schedule, rule)
    return [(held[id(one.sampler)], one.seeds) for one in some]


def _metric_names(names: str) -> list[str]:
    cut = re.split(r",(?![a-z_]+=)", names)  # what OPTION= begins belongs to the verifier before it
    found = list(dict.fromkeys(one.strip() for one in cut if one.strip()))
    if not found:
        raise ValueError("expected a metric (teacher, fid or a verifier), got none")
    bounds.no_more(bounds.MOST_VERIFIERS, "metrics", found)
    return found


def _check_metrics(names: str, features: str | None, reference: Path | None) -> list[str]:
    """The names of metrics, refused where there are none such, before a model is loaded."""
    from noisewright import registry

    found = _metric_names(names)
    for name in found:
        if name == "fid":
            if features is None or reference is None:
                raise ValueError("metric fid needs --features MODEL and --reference STATISTICS")
            if not registry.find_file(reference).is_file():
                raise ValueError(f"expected statistics of real images, got {reference}, which does not exist")
        elif name != "teacher" and ".py:" not in name:
            known = registry.names("verifier")
            if name.partition(":")[0] not in known:
                raise ValueError(registry.unknown("metric", name, ["teacher", "fid", *known]))
    return found


def _metrics(
    names: str, teacher_steps: int, features: str | None, reference: Path | None, device: str | None, kept: Kept
) -> list[Metric]:
    from noisewright import registry
    from noisewright.samplers.pipeline import best_device
    from noisewright.trajectory.metrics import ByVerifier, Fid, Teacher

    found: list[Metric] = []
    if reference is not None:
        reference = registry.find_file(reference).absolute()  # before a metric of the user's may go elsewhere
    for name in located_verifiers(_metric_names(names)) or []:
        if name == "teacher":
            found.append(Teacher(teacher_steps, kept))
        elif name == "fid":
            assert features is not None and reference is not None  # noqa: S101, PT018 - see _check_metrics
            from noisewright.measures.statistics import FeatureStatistics, check_same_network
            from noisewright.verifiers.features import FeatureNetwork

            known = FeatureStatistics.load(reference)
            network = FeatureNetwork(registry.find_model(features), device or best_device())
            check_same_network(FeatureStatistics(network.fingerprint), known)
            found.append(Fid(network, known))
        else:
            found.append(ByVerifier(registry.make_verifier(name, device or best_device())))
    return found


def _say_what_is_not_kept(by: Sequence[Any], kept: Kept) -> None:
    from noisewright.cli import terminal
    from noisewright.verifiers.cache import why_not_lasting
    from noisewright.verifiers.protocol import is_lasting

    for one in by if kept.root is not None else ():
        if not is_lasting(one):
            why = why_not_lasting(getattr(one, "verifier", one))
            terminal.say(f"values of {one.name} are not kept in {kept.root}: {why}")


def _notes(found: Fitted, made_of: Mapping[str, Any]) -> list[str]:
    """What a user should know of a fit."""
    notes = []
    before, after = (found.figures.get(f"abar_start_{name}") for name in ("before", "after"))
    if before and after and after > 1.5 * before:
        notes.append(
            f"the start moved to lower noise, abar {before:.3g} to {after:.3g}, while sampling begins with pure "
            "noise as before: compare with --fixed-start, and look at images"
        )
    guidance = made_of.get("errors_of", {}).get("guidance_scale", 1.0)
    if guidance != 1.0:
        notes.append(
            f"the errors were measured at guidance {guidance:g}, where a prediction is no estimate of the noise"
        )
    if "report_prompts" in made_of and made_of["prompts"] == made_of["report_prompts"]:
        notes.append("the figures are reported on other seeds of the prompts that were tuned on: name more prompts")
    reported = [*(found.figures.get("reported") or ()), *(found.figures.get("reported_change_interval") or ())]
    if len(reported) == 4 and None not in reported and reported[2] < 0 < reported[3]:
        notes.append(
            "on noises that it was not tuned on the change, {:.4g} to {:.4g}, may be chance (95 % [{:+.2g}, {:+.2g}]): "
            "tune on more prompts and samples".format(*reported)
        )
    return notes


def _compared(values: Any, others: Any, by: Sequence[Metric], groups: Sequence[str] | None) -> dict[str, Any]:
    """A row of ``compare``: each metric's value, its interval, and its change from the first schedule's ``others``."""
    found: dict[str, Any] = {}
    for one in by:
        rows = values[one.name]
        held: dict[str, Any] = {"value": one.summary(rows), "interval": list(one.interval(rows, groups=groups))}
        held["missing"] = int((~rows.reshape(len(rows), -1).isfinite().all(1)).sum())
        if others is not None:
            first = others[one.name]
            held["change"] = held["value"] - one.summary(first)
            held["change_interval"] = list(one.interval(rows, first, groups))
        found[one.name] = held
    return found


def _watched(as_json: bool) -> bool:
    return is_watched(as_json)
