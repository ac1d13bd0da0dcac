"""How far a command is, on standard error: a bar in a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from noisewright.cli import terminal
from noisewright.cli.libraries import is_watched
from noisewright.progress import Show, bar, lines


@contextmanager
def shown(as_json: bool) -> Iterator[Show]:
    """A display for the time of a command: ``show(done, left, text)``, see :mod:`noisewright.progress`.

    Args:
        as_json: whether the command prints JSON: then nothing is drawn, but that long work goes on is still said.
    """
    with bar(sys.stderr) if is_watched(as_json) else lines(terminal.say) as show:
        yield show
