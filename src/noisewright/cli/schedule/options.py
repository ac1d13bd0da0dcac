"""What the commands on schedules share: their options, and how what is typed becomes a call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisewright.cli.exits import Interrupted
from noisewright.cli.libraries import hush_libraries, share_processors
from noisewright.outside.files import check_directory
from noisewright.registry.located import located_verifiers

if TYPE_CHECKING:
    from noisewright.trajectory.progress import Report

Prompt = Annotated[
    list[str] | None,
    typer.Option(help="A prompt, or a class of a class-conditional model; may be repeated.", metavar="TEXT"),
]
Prompts = Annotated[Path | None, typer.Option(help="A file with a prompt (or a class) a line.", metavar="FILE")]
Solver = Annotated[str, typer.Option(help="A name from `list solvers`.", metavar="NAME")]
Start = Annotated[
    str,
    typer.Option("--from", help="What to begin with: a name from `list schedules`, or a file.", metavar="NAME|FILE"),
]
Features = Annotated[str | None, typer.Option(help="For fid: the feature network.", metavar="ID|DIR")]
Reference = Annotated[Path | None, typer.Option(help="For fid: saved statistics of real images.", metavar="FILE")]
Seed = Annotated[int, typer.Option(help="The first seed.", min=0, metavar="S")]
Batch = Annotated[int, typer.Option(help="Images at once.", min=1, metavar="N")]
Force = Annotated[bool, typer.Option("--force", help="Take a schedule or table that was made for another model.")]
Keep = Annotated[
    Path,
    typer.Option(
        help="Where what the model was asked is kept: a killed command goes on, a later one asks for less.",
        metavar="DIR",
    ),
]
KEEP = Path("runs/schedules")


def typed(ctx: typer.Context) -> dict[str, Any]:
    """What was typed, by the names that the Python interface has: what was not has its default there.

    Raises:
        ValueError: where prompts are given twice.
    """
    found = {
        name: value
        for name, value in ctx.params.items()
        if (source := ctx.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }
    for name in ("json", "out", "plot"):
        found.pop(name, None)
    found["keep"] = check_directory(ctx.params["keep"], "--keep")
    prompt = found.pop("prompt", None)
    if prompt and "prompts" in found:
        raise ValueError("expected --prompt or --prompts, got both")
    if prompt:
        found["prompts"] = list(prompt)
    if "metric" in found:
        found["metric"] = located_verifiers(metric_names(found["metric"]))
    return found


def metric_names(text: str) -> list[str]:
    """Names with commas between them; what OPTION= begins belongs to the verifier before it."""
    return [one.strip() for one in re.split(r",(?![a-z_]+=)", text) if one.strip()]


@contextmanager
def called(ctx: typer.Context, doing: str, as_json: bool) -> Iterator[Report]:
    """Around a call of the Python interface: its progress, its messages with the options' names, Ctrl-C.

    Gives what is to be called with the progress: it is shown where there is a terminal, a line in 30 s where not.
    """
    share_processors()
    from noisewright.cli import progress
    from noisewright.schemas.schedules import WrongArgument
    from noisewright.trajectory.model import drawn_by

    hush_libraries()
    with progress.shown(as_json) as show:
        show(0.0, None, doing)
        try:
            yield drawn_by(show)
        except WrongArgument as error:
            raise ValueError(error.spelled(lambda name: _option(ctx, name))) from None
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command goes on where it was") from None


def _option(ctx: typer.Context, name: str) -> str:
    """An argument of the Python interface as it is typed."""
    if name == "prompts":
        typed_file = ctx.params.get("prompts") is not None
        return "--prompts" if typed_file else "--prompt"
    options = {one.name: one.opts[0] for one in ctx.command.params if one.name is not None}
    return options.get(name, name)


def shortened(texts: Sequence[str], most: int = 3) -> str:
    """The first few of some texts, and how many there are besides."""
    rest = len(texts) - most
    listed = ", ".join(texts[:most])
    return f"{listed}, and {rest} more" if rest > 0 else listed
