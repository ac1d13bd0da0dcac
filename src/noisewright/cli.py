"""The command line. torch and diffusers are imported inside the commands: ``--help`` must not wait for them.

Exit codes: 0 done; 2 wrong use (one line); 1 failure (one line that names the run directory); 130 after Ctrl-C.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from noisewright import __version__, cli_schedule
from noisewright.particle import ENSEMBLES, ensemble_weights, read_ensemble
from noisewright.schemas.reading import exists, is_directory, is_file, short

if TYPE_CHECKING:
    from noisewright.api import Plan, Result

DEBUG = "NOISEWRIGHT_DEBUG"
DTYPES = ("float32", "float16", "bfloat16")
EXECUTORS = ("local", "ray")
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
KINDS = {"searches": "search", "verifiers": "verifier", "models": "model", "solvers": "solver", "schedules": "schedule"}

app = typer.Typer(
    name="noisewright",
    help="Better images from a pretrained diffusion model: search for better noise, and see what it cost.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class Interrupted(Exception):
    """Ctrl-C, with the line to print; exit code 130. (typer keeps KeyboardInterrupt for itself.)"""


class Failure(Exception):
    """A failure that is already one line; exit code 1."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, where that is not simply done."""

    code: int


# Options

Prompt = Annotated[
    str | None, typer.Argument(metavar="PROMPT", help="What to make, unless --class-label says it.", show_default=False)
]
ClassLabel = Annotated[
    str | None,
    typer.Option(help="For a class-conditional model: a class by its name or number.", metavar="NAME|N"),
]
Model = Annotated[str, typer.Option(help="A bundled model, a pipeline directory or a hub id.", metavar="ID|DIR")]
Search = Annotated[str, typer.Option(help="A name from `list searches`.", metavar="NAME")]
SearchArg = Annotated[
    list[str] | None,
    typer.Option(help="An argument of the search, NAME=VALUE; may be repeated.", metavar="NAME=VALUE"),
]
Verifier = Annotated[
    list[str] | None,
    typer.Option(
        help="What the search maximises: a name from `list verifiers`, NAME:MODEL or FILE.py:FUNCTION; may be "
        "repeated. By default what the model's card names, else clip.",
        metavar="NAME",
    ),
]
Judge = Annotated[
    list[str] | None,
    typer.Option(
        help="A verifier that the search never sees, reported for baseline and best; may be repeated. By default what "
        "the model's card names.",
        metavar="NAME",
    ),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        help='"64 images", "1920 nfe" or "30 s"; may be repeated: the first that runs out ends the search. '
        "By default 16 images, or what the run had.",
        metavar="AMOUNT",
    ),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Stop as soon as a candidate scores this; with several verifiers NAME=SCORE, repeated.",
        metavar="[NAME=]SCORE",
    ),
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps; by default the model's.", min=1, metavar="N")]
SearchSteps = Annotated[
    int | None,
    typer.Option(help="Search with this many steps and render the winner with --steps.", min=1, metavar="N"),
]
SolverOption = Annotated[
    str | None, typer.Option(help="A name from `list solvers`; by default the pipeline's own.", metavar="NAME")
]
Eta = Annotated[float | None, typer.Option(help="Noise of each step, 0 to 1 (ddim, dpmpp-2m-sde).", metavar="E")]
ScheduleOption = Annotated[
    str, typer.Option(help="A name from `list schedules`, or a schedule file.", metavar="NAME|FILE")
]
Force = Annotated[bool, typer.Option("--force", help="Take a schedule file that was made for another model.")]
Guidance = Annotated[float | None, typer.Option(help="As in diffusers; by default the model's.", metavar="G")]
Negative = Annotated[str | None, typer.Option(help="As in diffusers.", metavar="TEXT")]
Height = Annotated[int | None, typer.Option(help="Pixels; by default the model's.", min=1, metavar="H")]
Width = Annotated[int | None, typer.Option(help="Pixels; by default the model's.", min=1, metavar="W")]
Seed = Annotated[int, typer.Option(help="Candidate k starts from the noise of seed S + k.", metavar="S")]
Ensemble = Annotated[
    str,
    typer.Option(
        help="How several verifiers become one value: rank, zsum, or the weights of a weighted sum, NAME=W,NAME=W.",
        metavar="NAME|WEIGHTS",
    ),
]
ScoreCache = Annotated[
    Path | None,
    typer.Option(help="Keep scores here, and ask for none that is kept already.", metavar="DIR"),
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Images at once, halved when memory runs out; by default by size.", min=1, metavar="N"),
]
Out = Annotated[
    Path | None,
    typer.Option(help="The run directory: new, empty, or a run to continue; by default one in runs/.", metavar="DIR"),
]
Executor = Annotated[str, typer.Option(help="local: this process.", metavar="local|ray")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; by default the best there is.", metavar="NAME")]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, float16 or bfloat16; by default float32 on a CPU, else bfloat16.", metavar="NAME"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the planned cost, generate nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"noisewright {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Better images from a pretrained diffusion model: search for better noise, and see what it cost."""


# Commands


@app.command()
def generate(
    prompt: Prompt = None,
    model: Model = "noisewright/shapes",
    class_label: ClassLabel = None,
    search: Search = "random",
    search_arg: SearchArg = None,
    verifier: Verifier = None,
    judge: Judge = None,
    budget: BudgetOption = None,
    target: TargetOption = None,
    steps: Steps = None,
    search_steps: SearchSteps = None,
    solver: SolverOption = None,
    eta: Eta = None,
    schedule: ScheduleOption = "pipeline",
    force: Force = False,
    guidance_scale: Guidance = None,
    negative_prompt: Negative = None,
    height: Height = None,
    width: Width = None,
    seed: Seed = 0,
    ensemble: Ensemble = "rank",
    score_cache: ScoreCache = None,
    batch_size: BatchSize = None,
    out: Out = None,
    executor: Executor = "local",
    device: Device = None,
    dtype: Dtype = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> Ended | None:
    """Search for the noise that gives the best image."""
    if prompt is None and class_label is None:
        raise ValueError("expected a PROMPT or --class-label, got neither (see: noisewright generate --help)")
    request = {
        "model": _located_directory(model), "prompt": prompt, "class_label": class_label, "search": search,
        "search_args": list(search_arg or []),
        "verifier": _located(verifier), "judge": _located(judge), "budget": budget, "target": list(target or []),
        "num_inference_steps": steps, "search_steps": search_steps, "solver": solver, "eta": eta,
        "schedule": str(Path(schedule).resolve()) if is_file(schedule) else schedule, "force": force,
        "guidance_scale": guidance_scale, "negative_prompt": negative_prompt, "height": height,
        "width": width, "seed": seed, "ensemble": ensemble,
        "score_cache": None if score_cache is None else str(score_cache.resolve()),
        "batch_size": batch_size, "executor": executor, "device": device, "dtype": dtype,
    }  # fmt: skip
    if dry_run:
        _dry_run(request, json)
        return None
    return _run(request, _directory(out, prompt or str(class_label)), json)


@app.command()
def resume(
    run: RunDirectory, budget: BudgetOption = None, target: TargetOption = None, json: Json = False
) -> Ended | None:
    """Continue a run, or give it a larger budget.

    After a crash or Ctrl-C it goes on where it stopped, and makes nothing twice. A budget is that of the whole run.
    """
    from noisewright.schemas.files import check_request, check_shown
    from noisewright.store import read_run

    held = read_run(run)
    request = held.get("request")
    if request is None:
        raise ValueError(
            f"expected a run of the command line, got {run}, which was started from Python: "
            f"call noisewright.search(..., out={str(run)!r}) with its arguments to continue it"
        )
    request = check_request(request, str(run / "run.json"))
    changed = {"budget": budget, "target": list(target or [])}
    changed = {name: value for name, value in changed.items() if value and value != request.get(name)}
    complete = all((run / name).exists() for name in ("best.png", "baseline.png"))
    if held["status"] == "done" and not changed and complete:
        check_shown(held, str(run / "run.json"))
        _report(_recorded(run, held), [one["name"] for one in held["spec"].get("judges", [])], json)
        return None
    return _run({**request, **changed}, run, json)


@app.command()
def replay(
    source: Annotated[
        str, typer.Argument(metavar="IMAGE|RUN:ID", help="A PNG, or a run and an id (or best, baseline).")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the regenerated PNG here.", metavar="FILE.png")] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the model is now; by default where it was.", metavar="ID|DIR")
    ] = None,
    device: Device = None,
    dtype: Annotated[str | None, typer.Option(help="By default what made the image.", metavar="NAME")] = None,
    json: Json = False,
) -> Ended | None:
    """Regenerate an image from its recipe.

    Says whether the pixels are the same; the exit code is 1 where they are not.
    """
    _check_device(device, dtype)
    from noisewright import replay as replays
    from noisewright import terminal

    _hush()
    with terminal.waiting("regenerating ...", _watched(json)):
        found = replays.replay(source, out=out, model=model, device=device, dtype=dtype)
    if json:
        terminal.print_json(found.to_json())
    else:
        typer.echo(found.to_text())
    return None if found.identical else Ended(1)


@app.command()
def show(
    run: RunDirectory,
    top: Annotated[int, typer.Option(help="How many candidates to list.", min=1, metavar="N")] = 10,
    json: Json = False,
) -> None:
    """Show a run: candidates, curve, cost.

    Reads run.json and journal.jsonl alone, so it also works while the run goes on, and after a crash.
    """
    from noisewright import terminal
    from noisewright.evaluate.overview import overview

    found = overview(run)
    if json:
        terminal.print_json(found)
    else:
        terminal.print_overview(found, top)


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Images, or directories of images.")],
    prompt: Annotated[str, typer.Option(help="What the images should show.", metavar="TEXT", show_default=False)],
    verifier: Annotated[
        list[str], typer.Option(help="A name from `list verifiers`; may be repeated.", metavar="NAME")
    ],
    ensemble: Ensemble = "rank",
    score_cache: ScoreCache = None,
    device: Device = None,
    json: Json = False,
) -> Ended | None:
    """Score existing images, best first."""
    from noisewright import registry, terminal
    from noisewright.api import check_prompt
    from noisewright.evaluate.scoring import images_in, score_files
    from noisewright.samplers.pipeline import best_device
    from noisewright.verifiers.cache import cached

    check_prompt(prompt)
    _check_device(device, None)
    _hush()
    if not ensemble_weights(ensemble) and ensemble not in ENSEMBLES:
        raise ValueError(registry.unknown("ensemble", ensemble, list(ENSEMBLES)))
    verifiers = [registry.make_verifier(name, device or best_device()) for name in verifier]
    ensemble = read_ensemble(ensemble, [one.name for one in verifiers])
    if score_cache is not None:
        verifiers = [cached(one, score_cache) for one in verifiers]
    found, bad = score_files(images_in(files), prompt, verifiers, ensemble)
    if not found:
        raise ValueError("; ".join(bad))
    if json:
        terminal.print_json({"prompt": prompt, "verifiers": list(found[0]["scores"]), "images": found, "errors": bad})
    else:
        names = list(found[0]["scores"])
        rows = [[*(terminal.number(one["scores"][name]) for name in names), one["file"]] for one in found]
        terminal.out().print(terminal.table([*names, "file"], rows, right=range(len(names))))
    for line in bad:
        terminal.say(line)
    return Ended(2) if bad else None


@app.command()
def evaluate(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="Directories of images, .parquet files, runs or directories of runs.",
            show_default=False,
        ),
    ],
    features: Annotated[
        str,
        typer.Option(help="The feature network: a classifier or a CLIPModel.", metavar="ID|DIR", show_default=False),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="Real images: a directory, a .parquet file, or saved statistics.", metavar="DIR|FILE"),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Of fid,kid,is,precision,recall,density,coverage; by default what can be measured of the first five.",
            metavar="NAMES",
        ),
    ] = None,
    of: Annotated[str, typer.Option(help="Which images of a run: best, baseline or all.", metavar="NAME")] = "best",
    neighbours: Annotated[int, typer.Option(help="k of precision and recall.", min=1, metavar="K")] = 3,
    interval: Annotated[bool, typer.Option("--interval", help="Add a bootstrap interval of the FID.")] = False,
    save_statistics: Annotated[
        Path | None,
        typer.Option(help="Write mean and covariance here (.safetensors or .npz).", metavar="FILE"),
    ] = None,
    device: Device = None,
    json: Json = False,
) -> Ended | None:
    """Measure a set of images: FID, KID, Inception Score, precision and recall.

    Measures of thousands of images; values of two feature networks, or of two numbers of images, cannot be compared.
    """
    _check_device(device, None)
    from noisewright import registry, terminal
    from noisewright.evaluate.population import evaluate_images
    from noisewright.samplers.pipeline import best_device

    _hush()
    with terminal.waiting("measuring ...", _watched(json)):
        found = evaluate_images(
            images, registry.find_model(features), metrics, of=of, neighbours=neighbours,
            reference=None if reference is None else registry.find_file(reference), interval=interval,
            save_statistics=save_statistics, device=device or best_device(),
        )  # fmt: skip
    if json:
        terminal.print_json(found)
    else:
        terminal.print_metrics(found)
    for line in found["errors"]:
        terminal.say(line)
    return Ended(2) if found["errors"] else None


@app.command("list")
def list_names(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")],
    json: Json = False,
) -> None:
    """List what can be chosen by name."""
    from noisewright import registry, terminal

    if kind not in KINDS:
        raise ValueError(registry.unknown("kind", kind, list(KINDS)))
    found: list[dict[str, Any]] = []
    for one in registry.entries():
        if one.kind == KINDS[kind]:
            found.append({"name": one.name, "summary": one.summary, **one.details})
            if one.needs:
                found[-1]["needs"] = ", ".join(one.needs)
            if one.kind == "search":
                found[-1]["arguments"] = registry.search_arguments(one.name)
    if json:
        terminal.print_json(found)
    else:
        terminal.print_entries(found)


app.add_typer(cli_schedule.app, name="schedule")


# Behind the commands


def _run(request: dict[str, Any], out: Path, as_json: bool) -> Ended | None:
    """Plan and run what was asked for, and print what came of it."""
    _check_device(request["device"], request["dtype"])
    _check_names(request)
    from noisewright import api, terminal

    _hush()
    with terminal.waiting(f"loading {request['model']} ...", _watched(as_json)):
        plan, notes = _plan(request)
    for note in notes:
        _warn(note)
    with _naming(out), terminal.progress(_watched(as_json)) as update:
        result = api.execute(plan, out, update, request)
    return _finished(result, as_json)


def _finished(result: Result, as_json: bool) -> Ended | None:
    from noisewright import terminal

    for text in result.warnings:
        _warn(text)
    _report(result.to_json(), result.judges, as_json)
    if not result.interrupted:
        return None
    terminal.say(f"interrupted; the best so far is saved, continue with: noisewright resume {result.run}")
    return Ended(130)


def _report(summary: Mapping[str, Any], judges: Sequence[str], as_json: bool) -> None:
    from noisewright import terminal

    if as_json:
        terminal.print_json(summary)
    else:
        terminal.print_result(summary, judges)


def _recorded(run: Path, held: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a finished run, as ``--json`` printed it."""
    summary = dict(held["summary"])
    for name in ("best", "baseline"):
        summary[name] = {**summary[name], "file": str(run / summary[name]["file"])}
    return {**summary, "run": str(run)}


def _plan(request: Mapping[str, Any]) -> tuple[Plan, list[str]]:
    """A checked plan of a request, and what the user should know of how it was read."""
    from noisewright import api, registry

    arguments = {key: value for key, value in request.items() if key != "executor"}
    judges, notes = _judges(registry.find_model(request["model"]), request)
    arguments["judge"] = judges or None
    arguments["verifier"] = request["verifier"] or None
    arguments["search_args"] = _search_arguments(request["search_args"])
    arguments["target"] = _target(request["target"])
    return api.make_plan(arguments.pop("model"), arguments.pop("prompt"), **arguments), notes


def _judges(model: str, request: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The judges that were asked for, or the first of the card's that is no verifier here and can judge this prompt."""
    from noisewright import registry

    if request["judge"]:
        return list(request["judge"]), []
    card = registry.card(model)
    named = card.get("judge") or []
    taken = {registry.score_name(one) for one in request["verifier"] or [card.get("verifier") or ""]}
    free = [one for one in ([named] if isinstance(named, str) else named) if registry.score_name(one) not in taken]
    if not free:
        return [], []
    name = free[0]
    if name == "shapes-oracle":
        from noisewright.shapes.prompts import parse

        try:
            parse(request["prompt"] or "")
        except ValueError:
            return [], [f"{name} is not asked: it reads only prompts of the shapes world, such as 'two red circles'"]
    return [name], []


def _search_arguments(given: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts; the search's own types are checked with the plan."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"expected --search-arg NAME=VALUE, got {short(text)}")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def _target(given: Sequence[str]) -> float | dict[str, float] | None:
    """``SCORE`` or ``NAME=SCORE`` texts as :func:`noisewright.search` takes them."""
    named: dict[str, float] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"expected --target SCORE or NAME=SCORE, got {short(text)}") from None
        if not abs(number) < float("inf"):
            raise ValueError(f"expected a --target that a score can reach, got {short(text)}")
        if not name and len(given) == 1:
            return number
        if not name:
            raise ValueError(f"expected --target NAME=SCORE where there are several, got {short(text)}")
        named[name] = number
    return named or None


def _check_names(request: Mapping[str, Any]) -> None:
    """Refuse what needs no heavy import to be refused."""
    from noisewright import registry
    from noisewright.budget import parse_budget

    if request["executor"] not in EXECUTORS:
        raise ValueError(registry.unknown("executor", request["executor"], list(EXECUTORS)))
    if request["executor"] == "ray":
        raise ValueError("executor 'ray' is not available yet: expected local")
    parse_budget(request["budget"])
    if not is_file(request["schedule"]):
        registry.entry("schedule", request["schedule"])
    registry.entry("search", request["search"])
    for name in (*(request["verifier"] or ()), *(request["judge"] or ())):
        if ".py:" not in name:
            registry.entry("verifier", name.partition(":")[0])
    if request["solver"] is not None:
        registry.entry("solver", request["solver"])
    for name in ("guidance_scale", "eta"):
        value = request[name]
        if value is not None and not abs(value) < float("inf"):
            raise ValueError(f"expected a finite --{name.replace('_', '-')}, got {value}")


def _check_device(device: str | None, dtype: str | None) -> None:
    from noisewright import registry

    if dtype is not None and dtype not in DTYPES:
        raise ValueError(registry.unknown("dtype", dtype, list(DTYPES)))
    if device is None:
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"expected a device that torch has here (cpu, cuda, mps, ...), got {short(device)}") from None


def _located_directory(name: str) -> str:
    """A model's directory by its full path, so that ``resume`` finds it from another one; ids as they are."""
    from noisewright import registry

    return str(Path(name).resolve()) if registry.bundled(name) is None and is_directory(name) else name


def _located(names: Sequence[str] | None) -> list[str] | None:
    """Verifiers with files and models by their full path, so that ``resume`` finds them from another directory."""
    from noisewright import registry

    if names is None:
        return None
    found = []
    for name in names:
        file, _, function = name.rpartition(":")
        if file.endswith(".py") and is_file(file):
            found.append(f"{Path(file).resolve()}:{function}")
        else:
            kind, colon, rest = name.partition(":")
            model, options = registry.model_and_options(rest)
            parts = [_located_value("model", model)] if model else []
            parts += [f"{key}={_located_value(key, value)}" for key, value in options.items()]
            found.append(f"{kind}{colon}{','.join(parts)}")
    return found


PATH_OPTIONS = ("model", "head", "processor", "labels", "reference", "start")
"""What of a verifier may name a file or directory."""


def _located_value(key: str, value: str) -> str:
    """A verifier's model or option by its full path where it names what is there; labels are names but in a file."""
    from noisewright import registry

    may = key in PATH_OPTIONS and (key != "labels" or value.endswith(".txt"))
    there = may and value and registry.bundled(value) is None and exists(value)
    return str(Path(value).resolve()) if there else value


def _directory(out: Path | None, prompt: str) -> Path:
    """The run directory that was asked for, or a new one under ``runs``."""
    from noisewright.schemas.request import as_path

    if out is not None:
        return as_path("--out", out)
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:40].strip("-") or "run"
    first = Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{slug}"
    path, number = first, 2
    while path.exists():
        path, number = Path(f"{first}-{number}"), number + 1
    return path


@contextmanager
def _naming(out: Path) -> Iterator[None]:
    """Name the run directory in whatever goes wrong, and leave no empty run behind wrong use."""
    from noisewright.store import holds_run

    held, existed = holds_run(out), out.exists()
    try:
        yield
    except KeyboardInterrupt:
        begun = (out / "run.json").is_file()
        raise Interrupted(f"interrupted; continue with: noisewright resume {out}" if begun else "interrupted") from None
    except (ValueError, TypeError) as error:
        from noisewright.errors import VerifierFailed

        if not held and _is_empty_run(out):
            _drop(out, existed)
        elif isinstance(error, VerifierFailed):
            raise VerifierFailed(f"{error}; the images are kept in {out}") from error
        raise
    except Exception as error:
        if str(out) in str(error):
            raise
        raise Failure(
            f"{type(error).__name__}: {error}; what was finished is in {out}, continue with: noisewright resume {out}"
        ) from error


def _is_empty_run(out: Path) -> bool:
    journal = out / "journal.jsonl"
    return (out / "run.json").is_file() and journal.is_file() and journal.stat().st_size == 0


def _drop(out: Path, existed: bool) -> None:
    """Remove the empty run that was made a moment ago."""
    for name in ("run.json", "journal.jsonl"):
        (out / name).unlink(missing_ok=True)
    for path in (out / "images", out / "states", *(() if existed else (out,))):
        with suppress(OSError):  # something is in it after all: it stays
            path.rmdir()


def _dry_run(request: dict[str, Any], as_json: bool) -> None:
    _check_names(request)
    _check_device(request["device"], request["dtype"])
    from noisewright import terminal
    from noisewright.evaluate.forecast import forecast

    _hush()
    with terminal.waiting(f"loading {request['model']} ...", _watched(as_json)):
        plan, notes = _plan(request)
    with terminal.waiting("timing one step ...", _watched(as_json)):
        found = forecast(plan)
    for text in [*notes, *found["warnings"]]:
        _warn(text)
    if as_json:
        terminal.print_json(found)
    else:
        terminal.print_forecast(found)


def _watched(as_json: bool) -> bool:
    """Whether a person looks at standard error."""
    return not as_json and sys.stderr.isatty()


def _warn(text: str) -> None:
    from noisewright import terminal

    terminal.say(f"warning: {text}")


def _hush() -> None:
    """Keep the libraries' own bars and notes off the terminal."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


# The entry point


class _Lines(logging.Handler):
    """Warnings of the library as lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        _warn(record.getMessage())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; never raises, never prints a traceback (but with NOISEWRIGHT_DEBUG=1).

    Args:
        argv: the arguments after the program's name; by default those of the process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with _quiet_libraries(), _stoppable():
        try:
            code = _command(arguments or ["--help"])
            sys.stdout.flush()
        except BaseException as error:
            code = _explained(error)
    return code


def _command(arguments: list[str]) -> int:
    found = typer.main.get_command(app).main(args=arguments, prog_name="noisewright", standalone_mode=False)
    if isinstance(found, Ended):
        return found.code
    if found == 130:  # Ctrl-C, of which typer makes an exit
        _say("interrupted")
    return found if isinstance(found, int) else 0


def _explained(error: BaseException) -> int:
    """One line on standard error, and the exit code."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    if _is_broken_pipe(error):
        _close_stdout()
        return 1
    if isinstance(error, Interrupted):
        _say(str(error))
        return 130
    if isinstance(error, (KeyboardInterrupt, typer.Abort)) or (isinstance(error, SystemExit) and error.code == 130):
        _say("interrupted")
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if hasattr(error, "format_message"):  # click's own errors, whichever package they come from
        _say(f"{error.format_message()}{_see_help(error)}")
        return 2
    if isinstance(error, (ValueError, TypeError)):
        _say(str(error))
        return 2
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        _say(f"expected a path, got {short(error.filename)}: {error.strerror}")
        return 2
    if isinstance(error, (Failure, RuntimeError, OSError)) and str(error):
        _say(str(error))
        return 1
    _say(f"{type(error).__name__}: {error} (a traceback with {DEBUG}=1)")
    return 1


def _say(text: str) -> None:
    with suppress(OSError):
        line = " ".join(text.split()).encode(errors="backslashreplace").decode()
        sys.stderr.write(f"noisewright: {line}\n")


def _see_help(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f" (see: {context.command_path} --help)" if context is not None else ""


def _is_broken_pipe(error: BaseException) -> bool:
    """Whether the reader of our output went away; typer turns that into an exit of its own."""
    context = error.__context__ if isinstance(error, SystemExit) else None
    return any(isinstance(one, OSError) and one.errno == errno.EPIPE for one in (error, context))


def _close_stdout() -> None:
    """Let the interpreter's last flush go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """No telemetry, no notes of the libraries; the package's warnings as lines."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    handler = _Lines(logging.WARNING)
    log = logging.getLogger("noisewright")
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not os.environ.get(DEBUG):
                warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: with the best so far saved.

    SIGINT too is set here, because a shell script starts its background jobs with it ignored.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def entry() -> NoReturn:
    """``python -m noisewright.cli``."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
