"""The entry point: the commands under their names, signals, and an exit code for whatever goes wrong."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, NoReturn

import typer

from noisewright import __version__
from noisewright.cli import libraries, output, pages
from noisewright.cli import schedule as schedules
from noisewright.cli.audit import audit
from noisewright.cli.benchmark import benchmark
from noisewright.cli.beside import page_beside
from noisewright.cli.calibrate import calibrate
from noisewright.cli.check import check
from noisewright.cli.compare import compare
from noisewright.cli.exits import Ended, Failure, Interrupted
from noisewright.cli.generate import generate
from noisewright.cli.libraries import DEBUG, quiet_libraries
from noisewright.cli.list import list_names
from noisewright.cli.replay import replay
from noisewright.cli.resume import resume
from noisewright.cli.score import evaluate, score
from noisewright.cli.serve import serve
from noisewright.cli.show import show
from noisewright.cli.signals import stoppable
from noisewright.cli.stop import stop
from noisewright.errors import VerifierFailed
from noisewright.outside.messages import short
from noisewright.outside.texts import LONGEST, clean

app = typer.Typer(
    name="noisewright",
    help="Better images from a pretrained diffusion model: search for better noise, and see what it cost.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


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


app.command()(generate)
app.command()(resume)
app.command()(replay)
app.command()(show)
app.command()(stop)
app.command()(check)
app.command()(calibrate)
app.command()(score)
app.command()(evaluate)
app.command()(benchmark)
app.command()(compare)
app.command()(audit)
app.command()(serve)
app.command("list")(list_names)
app.add_typer(schedules.app, name="schedule")
pages.made_by(page_beside)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; never raises, never prints a traceback (but with NOISEWRIGHT_DEBUG=1).

    Args:
        argv: the arguments after the program's name; by default those of the process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    libraries.is_own_process = argv is None
    with quiet_libraries(), stoppable():
        try:
            _check_here()
            code = _command(arguments or ["--help"], for_good=argv is None)
            sys.stdout.flush()
        except BaseException as error:
            code = _explained(error)
    libraries.end_soon()
    return code


def _check_here() -> None:
    """Refuse to work in a directory that is gone: relative paths mean nothing there, and libraries end in a crash."""
    try:
        os.getcwd()
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise ValueError(f"expected a working directory that is there, got one that is gone: {said}") from None


@cache
def _commands(for_good: bool) -> Any:
    """The commands with the output reserved for them, made once: signatures are slow to read."""
    command = typer.main.get_command(app)
    output.reserve(command, for_good)
    return command


def _command(arguments: list[str], for_good: bool) -> int:
    found = _commands(for_good).main(args=arguments, prog_name="noisewright", standalone_mode=False)
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
        output.close_stdout()
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
        for line in getattr(error, "problems", None) or [str(error)]:  # of a spec all that is wrong
            _say(line)
        return 1 if isinstance(error, VerifierFailed) else 2  # somebody's code failed: the command was right
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
        return output.is_gone(output.stream())
    return any(isinstance(one, OSError) and one.errno == errno.EPIPE for one in (error, context))


def entry() -> NoReturn:
    """``python -m noisewright``: the process ends with the exit code."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
