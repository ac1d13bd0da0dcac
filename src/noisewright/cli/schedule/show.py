"""``noisewright schedule show``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noisewright.cli import options as common


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A schedule of `fit`.")], json: common.Json = False
) -> None:
    """Show a schedule: its levels as a table and a picture, what it was made for and how, and what diffusers takes."""
    from noisewright.cli.schedule.display import print_schedule
    from noisewright.trajectory.files import read_schedule_file

    print_schedule(read_schedule_file(file), file, json)
