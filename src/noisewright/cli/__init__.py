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

from noisewright import __version__
from noisewright.cli import output
from noisewright.cli import schedule as cli_schedule
from noisewright.cli import score as cli_score
from noisewright.cli.score import Ensemble, ScoreCache
from noisewright.outside.files import check_directory
from noisewright.outside.texts import LONGEST, clean
from noisewright.schemas.reading import exists, is_directory, is_file, short

if TYPE_CHECKING:
    from noisewright.plan import Plan
    from noisewright.result import Result

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
        "the model's card names; none: none.",
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
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Import the files, call the servers, fetch the models and use the directories that it names.",
    ),
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
        "verifier": located(verifier), "judge": located(judge), "budget": budget, "target": list(target or []),
        "num_inference_steps": steps, "search_steps": search_steps, "solver": solver, "eta": eta,
        "schedule": str(Path(schedule).resolve()) if is_file(schedule) else schedule, "force": force,
        "guidance_scale": guidance_scale, "negative_prompt": negative_prompt, "height": height,
        "width": width, "seed": seed, "ensemble": ensemble,
        "score_cache": None if score_cache is None else str(check_directory(score_cache, "--score-cache").resolve()),
        "batch_size": batch_size, "executor": executor, "device": device, "dtype": dtype,
    }  # fmt: skip
    if out is not None:
        check_directory(out)
    if dry_run:
        _dry_run(request, json)
        return None
    return _run(request, out, json)


@app.command()
def resume(
    run: RunDirectory,
    budget: BudgetOption = None,
    target: TargetOption = None,
    trust: Trust = False,
    json: Json = False,
) -> Ended | None:
    """Continue a run, or give it a larger budget.

    After a crash or Ctrl-C it goes on where it stopped, and makes nothing twice. A budget is that of the whole run.
    """
    from noisewright.run.store import is_concluded, read_run
    from noisewright.schemas.files import check_request, check_shown

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
    if not changed and is_concluded(run):
        check_shown(held, str(run / "run.json"))
        _report(_recorded(run, held), [one["name"] for one in held["spec"].get("judges", [])], json)
        return None
    if not trust:
        _check_trust(run, request)
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
    trust: Annotated[bool, typer.Option("--trust", help="Fetch the model that the image names.")] = False,
    json: Json = False,
) -> Ended | None:
    """Regenerate an image from its recipe.

    Says whether the pixels are the same; the exit code is 1 where they are not.
    """
    _check_device(device, dtype)
    from noisewright import replay as replays
    from noisewright.cli import terminal

    _hush()
    with terminal.waiting("regenerating ...", _watched(json)):
        found = replays.replay(source, out=out, model=model, device=device, dtype=dtype, trust=trust)
    if json:
        terminal.print_json(found.to_json())
    else:
        output.print_line(clean(found.to_text(), LONGEST, lines=True))
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
    from noisewright.cli import terminal
    from noisewright.evaluate.overview import overview

    found = overview(run)
    for text in found["warnings"]:
        _warn(text)
    if json:
        terminal.print_json(found)
    else:
        terminal.print_overview(found, top)


app.command()(cli_score.score)
app.command()(cli_score.evaluate)


@app.command("list")
def list_names(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")],
    json: Json = False,
) -> None:
    """List what can be chosen by name."""
    from noisewright import registry
    from noisewright.cli import terminal

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


def _run(request: dict[str, Any], out: Path | None, as_json: bool) -> Ended | None:
    """Plan and run what was asked for, and print what came of it, with the directory as it was typed.

    Where none was, a new one under ``runs`` is made when all is checked.
    """
    here = Path.cwd()  # a verifier may change the working directory
    where = None if out is None else check_directory(out)
    _check_device(request["device"], request["dtype"])
    _check_names(request)
    from noisewright.cli import terminal
    from noisewright.execute import execute

    _hush()
    with terminal.waiting(f"loading {request['model']} ...", _watched(as_json)):
        plan = _plan(request)
    claimed = None
    if out is None or where is None:
        out = claimed = _new_directory(here, request["prompt"] or str(request["class_label"]))
        where = here / out
    with _naming(where, out, claimed), terminal.progress(_watched(as_json)) as update:
        result = execute(plan, where, update, request)
    return _finished(result, out, as_json)


def _finished(result: Result, out: Path, as_json: bool) -> Ended | None:
    from noisewright.cli import terminal

    summary = _in_directory(out, result.to_json())
    summary["warnings"] = [text.replace(str(result.run), str(out)) for text in summary["warnings"]]
    for text in summary["warnings"]:
        _warn(text)
    try:
        _report(summary, result.judges, as_json)
    except OSError:  # the terminal was closed: all is saved, and why it ended counts more
        if not result.interrupted:
            raise
        _close_stdout()
    if not result.interrupted:
        return None
    terminal.say(f"interrupted; the best so far is saved, continue with: noisewright resume {out}")
    return Ended(130)


def _report(summary: Mapping[str, Any], judges: Sequence[str], as_json: bool) -> None:
    from noisewright.cli import terminal

    if as_json:
        terminal.print_json(summary)
    else:
        terminal.print_result(summary, judges)


def _recorded(run: Path, held: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a finished run, as ``--json`` printed it."""
    return _in_directory(run, held["summary"])


def _in_directory(run: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """A result with its paths below ``run``."""
    found = dict(summary)
    for name in ("best", "baseline"):
        found[name] = {**found[name], "file": str(run / Path(found[name]["file"]).name)}
    return {**found, "run": str(run)}


def _plan(request: Mapping[str, Any]) -> Plan:
    """A checked plan of a request."""
    from noisewright.plan import make_plan

    arguments = {key: value for key, value in request.items() if key != "executor"}
    arguments["judge"] = request["judge"] or None
    arguments["verifier"] = request["verifier"] or None
    arguments["search_args"] = _search_arguments(request["search_args"])
    arguments["target"] = _target(request["target"])
    return make_plan(arguments.pop("model"), arguments.pop("prompt"), **arguments)


def _check_trust(run: Path, request: Mapping[str, Any]) -> None:
    """Refuse what a run directory may not name by itself, before anything is imported or compared."""
    from noisewright.plan import make_plan
    from noisewright.registry import trust

    trust.check_run(run, request, trust.plan_settings(make_plan))


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
    from noisewright.run.budget import parse_budget

    if request["executor"] not in EXECUTORS:
        raise ValueError(registry.unknown("executor", request["executor"], list(EXECUTORS)))
    if request["executor"] == "ray":
        raise ValueError("executor 'ray' is not available yet: expected local")
    parse_budget(request["budget"])
    if not is_file(request["schedule"]):
        registry.entry("schedule", request["schedule"])
    registry.entry("search", request["search"])
    judges = () if request["judge"] == ["none"] else request["judge"] or ()
    for name in (*(request["verifier"] or ()), *judges):
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


def located(names: Sequence[str] | None) -> list[str] | None:
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


def _new_directory(here: Path, prompt: str) -> Path:
    """A new directory ``runs/...`` in ``here``, which no other process gets: two starts in one second get two."""
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:40].strip("-") or "run"
    first = Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{slug}"
    path, number = first, 2
    try:
        (here / first.parent).mkdir(parents=True, exist_ok=True)
        while True:
            try:
                (here / path).mkdir()
                return path
            except FileExistsError:
                path, number = Path(f"{first}-{number}"), number + 1
    except OSError as error:
        raise ValueError(f"expected a directory that can be written, got {path}: {error.strerror}") from error


@contextmanager
def _naming(where: Path, out: Path, claimed: Path | None = None) -> Iterator[None]:
    """Name the run directory in whatever goes wrong; one that was ``claimed`` and stayed empty is removed.

    Args:
        where: its full path.
        out: as it was typed, for messages.
        claimed: where this process made it.
    """
    try:
        with _as_typed(where, out):
            yield
    except KeyboardInterrupt:
        begun = (where / "run.json").is_file()
        raise Interrupted(f"interrupted; continue with: noisewright resume {out}" if begun else "interrupted") from None
    except (ValueError, TypeError) as error:
        from noisewright.errors import VerifierFailed

        if claimed is not None:
            with suppress(OSError):
                where.rmdir()
        if isinstance(error, VerifierFailed) and (where / "run.json").is_file():
            raise VerifierFailed(f"{error}; the images are kept in {out}") from error
        raise
    except Exception as error:
        if str(out) in str(error):
            raise
        raise Failure(
            f"{type(error).__name__}: {error}; what was finished is in {out}, continue with: noisewright resume {out}"
        ) from error


@contextmanager
def _as_typed(where: Path, out: Path) -> Iterator[None]:
    """Messages that name the run directory by its full path name it as it was typed."""
    try:
        yield
    except Exception as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (error.args[0].replace(str(where), str(out)),)
        raise


def _dry_run(request: dict[str, Any], as_json: bool) -> None:
    _check_names(request)
    _check_device(request["device"], request["dtype"])
    from noisewright.cli import terminal
    from noisewright.evaluate.forecast import forecast

    _hush()
    with terminal.waiting(f"loading {request['model']} ...", _watched(as_json)):
        plan = _plan(request)
    with terminal.waiting("timing one step ...", _watched(as_json)):
        found = forecast(plan)
    for text in found["warnings"]:
        _warn(text)
    if as_json:
        terminal.print_json(found)
    else:
        terminal.print_forecast(found)


def _watched(as_json: bool) -> bool:
    """Whether a person looks at standard error."""
    return not as_json and sys.stderr.isatty()


def _warn(text: str) -> None:
    from noisewright.cli import terminal

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
            _check_here()
            code = _command(arguments or ["--help"], for_good=argv is None)
            sys.stdout.flush()
        except BaseException as error:
            code = _explained(error)
    return code


def _check_here() -> None:
    """Refuse to work in a directory that is gone: relative paths mean nothing there, and libraries end in a crash."""
    try:
        os.getcwd()
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise ValueError(f"expected a working directory that is there, got one that is gone: {said}") from None


def _command(arguments: list[str], for_good: bool) -> int:
    command = typer.main.get_command(app)
    output.reserve(command, for_good)
    found = command.main(args=arguments, prog_name="noisewright", standalone_mode=False)
    if isinstance(found, Ended):
        return found.code
    if found == 130:  # Ctrl-C, of which typer makes an exit
        _say("interrupted")
    return found if isinstance(found, int) else 0


def _explained(error: BaseException) -> int:
    """One line on standard error, and the exit code."""
    if os.environ.get(DEBUG):
        sys.stderr.write(clean("".join(traceback.format_exception(error)), LONGEST, lines=True) + "\n")
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
        sys.stderr.write(f"noisewright: {clean(text, 3000).encode(errors='backslashreplace').decode()}\n")


def _see_help(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f" (see: {context.command_path} --help)" if context is not None else ""


def _is_broken_pipe(error: BaseException) -> bool:
    """Whether the reader of our output went away, or the terminal; typer turns the first into an exit of its own."""
    context = error.__context__ if isinstance(error, SystemExit) else None
    if isinstance(error, OSError) and error.errno == errno.EIO and error.filename is None:
        return _is_gone(output.stream())
    return any(isinstance(one, OSError) and one.errno == errno.EPIPE for one in (error, context))


def _is_gone(stream: Any) -> bool:
    """Whether a stream was a terminal that has been closed."""
    try:
        os.ttyname(stream.fileno())
    except OSError as error:
        return error.errno == errno.EIO
    except (ValueError, AttributeError):  # no stream, or none with a descriptor
        return False
    return False


def _close_stdout() -> None:
    """Let the interpreter's last flush go nowhere."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.stream().fileno())


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
    """SIGTERM and SIGHUP (a closed terminal) end a run as Ctrl-C does: with the best so far saved.

    SIGINT too is set here, because a shell script starts its background jobs with it ignored. A SIGHUP that is ignored
    stays so: that is what nohup asks for.
    """
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        if hangup in before:  # it comes from the kernel and from the shell, and must not end the saving
            signal.signal(hangup, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def entry() -> NoReturn:
    """``python -m noisewright``: the process ends with the exit code."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
