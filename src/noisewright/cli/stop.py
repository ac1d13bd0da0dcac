"""``noisewright stop``: end a run from outside."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from noisewright.cli import options, output

LOOK_SECONDS = 0.2
"""Between two looks whether it has ended."""


def stop(
    run: options.RunDirectory,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
) -> None:
    """End a run after the micro-batch in flight.

    It ends as after Ctrl-C: the best so far is saved, and resume goes on from there.
    """
    from noisewright.cli import terminal
    from noisewright.run.follow import Watch
    from noisewright.run.store import ask_to_stop

    ask_to_stop(run)
    if not wait:
        output.print_line(terminal.one_line(f"asked {run} to stop: it ends after the micro-batch in flight"))
        return
    watch = Watch(run)
    watch.look()
    while watch.status == "running":
        time.sleep(LOOK_SECONDS)
        watch.look()
    how = {"done": "it was done before it saw that", "interrupted": f"continue with: noisewright resume {run}"}
    said = how.get(watch.status, f"it {watch.status}")
    output.print_line(terminal.one_line(f"{run} has ended: {said}"))
