"""A request, run in a directory: its progress, its result, its messages with the directory as it was typed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.cli import output
from noisewright.cli.exits import Ended, Failure, Interrupted
from noisewright.cli.libraries import hush_libraries, is_watched, loading, share_processors, warn
from noisewright.cli.pages import page_of
from noisewright.cli.requests import check_device
from noisewright.errors import Stopped
from noisewright.outside.files import check_directory
from noisewright.run.directory import summary_in

if TYPE_CHECKING:
    from noisewright.request import Request
    from noisewright.result import Result


def run_request(
    request: Request, out: Path | None, as_json: bool, checked: Mapping[str, Any] | None = None, serve: bool = False
) -> Ended | None:
    """Plan and run what was asked for, and print what came of it, with the directory as it was typed.

    Where none was, a new one under ``runs`` is made when all is checked. ``checked`` is what a run that is continued
    recorded of its pipeline. ``serve``: with a page beside it, which stays when the run is over, until Ctrl-C.
    """
    from noisewright.request import check_names

    here = Path.cwd()  # a verifier may change the working directory
    where = None if out is None else check_directory(out)
    check_names(request)
    share_processors()
    from noisewright.cli import progress, terminal

    with loading(), terminal.waiting(f"loading {request.model} ...", is_watched(as_json)):
        check_device(request.device, None)
        from noisewright.continuing import as_recorded
        from noisewright.execute import execute
        from noisewright.planning import plan
        from noisewright.progress import RunProgress

        hush_libraries()
        request = request if where is None else as_recorded(where, request)
        made = plan(request, checked=checked)
    for text in made.warnings:  # before anything is spent
        warn(text)
    claimed = None
    if out is None or where is None:
        out = claimed = new_directory(here, request.prompt or str(request.class_label or request.model))
        where = here / out
    said = made.warnings
    with ExitStack() as stack:
        with naming(where, out, claimed):
            stay = stack.enter_context(page_of(request, where)) if serve else None
            with progress.shown(as_json) as show:
                result = execute(made, where, RunProgress(show))
        ended = print_finished(result, out, as_json, said)
        if stay is not None and (ended is None or result.stopped == "stopped"):  # which its page may have asked for
            del made
            stay()
    return ended


def print_finished(result: Result, out: Path, as_json: bool, said: Sequence[str] = ()) -> Ended | None:
    """Print what came of a run, and its warnings but those that were ``said`` before it."""
    from noisewright.cli import terminal

    summary = summary_in(out, result.to_json())
    summary["warnings"] = [text.replace(str(result.run), str(out)) for text in summary["warnings"]]
    for text in summary["warnings"]:
        if text not in said:
            warn(text)
    try:
        print_summary(summary, result.judges, as_json)
    except OSError:  # the terminal was closed: all is saved, and why it ended counts more
        if not result.interrupted:
            raise
        output.close_stdout()
    if not result.interrupted:
        return None
    how = "stopped" if result.stopped == "stopped" else "interrupted"
    terminal.say(f"{how}; the best so far is saved, continue with: noisewright resume {out}")
    return Ended(130)


def print_summary(summary: Mapping[str, Any], judges: Sequence[str], as_json: bool) -> None:
    from noisewright.cli import results, terminal

    if as_json:
        terminal.print_json(summary)
    else:
        results.print_result(summary, judges)


def recorded(run: Path, held: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a finished run, as ``--json`` printed it."""
    return summary_in(run, held["summary"])


def new_directory(here: Path, prompt: str) -> Path:
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
def naming(where: Path, out: Path, claimed: Path | None = None) -> Iterator[None]:
    """Name the run directory in whatever goes wrong; one that was ``claimed`` and stayed empty is removed.

    Args:
        where: its full path.
        out: as it was typed, for messages.
        claimed: where this process made it.
    """
    try:
        with as_typed(where, out):
            yield
    except (KeyboardInterrupt, Stopped) as error:
        how = "stopped" if isinstance(error, Stopped) else "interrupted"
        begun = (where / "run.json").is_file()
        raise Interrupted(f"{how}; continue with: noisewright resume {out}" if begun else how) from None
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
def as_typed(where: Path, out: Path) -> Iterator[None]:
    """Messages that name the run directory by its full path name it as it was typed."""
    try:
        yield
    except Exception as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (error.args[0].replace(str(where), str(out)),)
        raise
