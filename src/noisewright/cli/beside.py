"""``generate --serve``: the page of the run that this process makes."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from noisewright.cli import output
from noisewright.cli.serve import settings_beside

if TYPE_CHECKING:
    from noisewright.request import Request


@contextmanager
def page_beside(request: Request, where: Path) -> Iterator[Callable[[], None]]:
    """The page, for as long as the block lasts; gives what stays until Ctrl-C, when the run is over.

    Args:
        request: of the run.
        where: its directory, which may still have to be made.

    Raises:
        ValueError: in one line, where no server can be started.
    """
    from noisewright.cli import terminal
    from noisewright.request import NONE
    from noisewright.web.serving import Beside

    judges = () if request.judge == NONE else request.judge or ()
    server = Beside(settings_beside(where, str(request.model), (*(request.verifier or ()), *judges)))
    server.start()

    def stay() -> None:
        _make_room()
        server.go_on()
        terminal.say_address("the page stays at", server.address, " (Ctrl-C ends it)")
        output.stream().flush()  # a program that reads it need not wait for that
        with suppress(KeyboardInterrupt):
            threading.Event().wait()

    try:
        terminal.say_address("the run on", server.address)
        yield stay
    finally:
        server.close()


def _make_room() -> None:
    """Of the model, which the run is over with: what is asked for on the page loads one of its own."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
