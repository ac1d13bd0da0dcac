"""``noisewright show``: what a run made, and what it cost."""

from __future__ import annotations

from typing import Annotated

import typer

from noisewright.cli import options
from noisewright.cli.libraries import warn


def show(
    run: options.RunDirectory,
    top: Annotated[int, typer.Option(help="How many candidates to list.", min=1, metavar="N")] = 10,
    json: options.Json = False,
) -> None:
    """Show a run: candidates, curve, cost.

    Reads run.json and journal.jsonl alone, so it also works while the run goes on, and after a crash.
    """
    from noisewright.cli import terminal
    from noisewright.evaluate.overview import overview

    found = overview(run)
    for text in found["warnings"]:
        warn(text)
    if json:
        terminal.print_json(found)
    else:
        terminal.print_overview(found, top)
