"""``noisewright show``: what a run made, and what it cost; also while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from noisewright.cli import options, output
from noisewright.cli.exits import Ended
from noisewright.cli.libraries import warn

LOOK_SECONDS = 1.0
"""Between two looks at a run that is followed."""


def show(
    run: options.RunDirectory,
    top: Annotated[int, typer.Option(help="How many candidates to list.", min=1, metavar="N")] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on showing it as it changes, until it ends; Ctrl-C ends the showing.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="Write a page of it, which needs no other file.")] = False,
    diffusers: Annotated[
        bool, typer.Option("--diffusers", help="Print the lines of plain diffusers that make the best.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where --html writes; by default page.html in the run.", metavar="FILE.html")
    ] = None,
    json: options.Json = False,
) -> Ended | None:
    """Show a run: candidates, curve, cost.

    Reads run.json and journal.jsonl alone, so it also works while the run goes on, and after a crash.
    """
    ways = [name for name, given in (("--follow", follow), ("--html", html), ("--diffusers", diffusers)) if given]
    if len(ways) > 1:
        raise ValueError(f"expected one of --follow, --html and --diffusers, got {' and '.join(ways)}")
    if out is not None and not html:
        raise ValueError("expected --out with --html, which writes a file, got it without")
    if follow:
        return _follow(run, top, json)
    from noisewright.cli import results, terminal
    from noisewright.evaluate.overview import overview

    if diffusers:
        return _print_diffusers(run, json)
    found = overview(run)
    for text in found["warnings"]:
        warn(text)
    if html:
        _write_page(found, run / "page.html" if out is None else out, json)
    elif json:
        terminal.print_json(found)
    else:
        terminal.out().print(results.overview_view(found, top))
    return None


def _follow(run: Path, top: int, as_json: bool) -> Ended | None:
    """Show a run at every change until nobody works on it."""
    from noisewright.evaluate.overview import overview_of
    from noisewright.run.follow import Watch

    watch, warned = Watch(run), set[str]()
    try:
        with _told(top, as_json) as tell:
            while True:
                if watch.look():
                    found = overview_of(watch)
                    for text in found["warnings"]:
                        if text not in warned:
                            warn(text)
                        warned.add(text)
                    tell(found)
                if watch.status != "running":
                    return None
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:  # the showing ends, the run goes on: nothing to say
        return Ended(130)


@contextmanager
def _told(top: int, as_json: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What shows a run that changed: a table in place on a terminal, else a line; or an object of JSON a line."""
    from rich.live import Live

    from noisewright.cli import results, terminal

    if as_json:
        sent = [0]

        def as_object(found: Mapping[str, Any]) -> None:
            points = found["curve"]
            new = points[sent[0] :] if len(points) >= sent[0] else points
            sent[0] = len(points)
            terminal.print_json({**found, "candidates": found["candidates"][:top], "curve": new}, line=True)

        yield as_object
    elif output.stream().isatty():
        last: list[Mapping[str, Any]] = []
        console = terminal.out()
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def in_place(found: Mapping[str, Any]) -> None:
                last[:] = [found]
                live.update(results.overview_view(found, top), refresh=True)

            yield in_place
        for found in last:
            console.print(results.overview_view(found, top))
    else:

        def as_line(found: Mapping[str, Any]) -> None:
            output.print_line(terminal.one_line(results.changed_line(found)))
            output.stream().flush()

        yield as_line


def _write_page(found: Mapping[str, Any], out: Path, as_json: bool) -> None:
    from noisewright.cli import terminal
    from noisewright.evaluate.page import run_page
    from noisewright.outside.files import check_output, write_atomically

    place = check_output(out)
    write_atomically(place, run_page(found).encode())
    if as_json:
        terminal.print_json({"run": found["run"], "file": str(out)})
    else:
        output.print_line(str(out))


def _print_diffusers(run: Path, as_json: bool) -> Ended | None:
    from noisewright.cli import terminal
    from noisewright.plain import plain_diffusers

    code, why_not = plain_diffusers(run)
    if as_json:
        terminal.print_json({"run": str(run), "code": code, "why_not": why_not})
    elif code is not None:
        output.print_line(code)
    else:
        terminal.say(f"plain diffusers cannot make the best of {run}: {why_not}")
    return Ended(1) if code is None else None
