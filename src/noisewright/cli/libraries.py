"""What the libraries below say, kept off the terminal; what the package itself warns of, as lines."""

from __future__ import annotations

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from noisewright.outside import busy

DEBUG = "NOISEWRIGHT_DEBUG"
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


is_own_process = False
"""Whether this process is the command line's alone, so that what it has imported stays to its end."""

_until_the_end = ExitStack()


def is_watched(as_json: bool) -> bool:
    """Whether a person looks at standard error."""
    return not as_json and sys.stderr.isatty()


def warn(text: str) -> None:
    from noisewright.cli import terminal

    terminal.say(f"warning: {text}")


def hush_libraries() -> None:
    """Keep the libraries' own bars and notes off the terminal, until the command ends."""
    from noisewright.samplers.quiet import hush

    hush(_until_the_end)


def share_processors() -> None:
    """Before torch is imported: how its threads wait for each other where the machine is busy, which is said."""
    said = busy.settle()
    if said is not None:
        from noisewright.cli import terminal

        terminal.say(said)


@contextmanager
def loading() -> Iterator[None]:
    """Import libraries and load models without the garbage collector.

    It would look again and again at the million objects of the libraries, of which none is garbage: a fifth of the time
    that it takes to import them. In a process of our own they are left out from then on.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if is_own_process:
            gc.freeze()
        gc.enable()


def end_soon() -> None:
    """At the end of a process of our own: what is left is let go of as it is, and not looked through first."""
    if is_own_process:
        gc.freeze()


class _Lines(logging.Handler):
    """What the library says as lines on standard error: its warnings; and once each, what it decided."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            warn(text)
        elif text not in self._said:
            from noisewright.cli import terminal

            self._said.add(text)
            terminal.say(text)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No telemetry, no notes of the libraries; the package's own as lines."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    handler = _Lines()
    log = logging.getLogger("noisewright")
    propagate, log.propagate, level = log.propagate, False, log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not os.environ.get(DEBUG):
                warnings.simplefilter("ignore")
            try:
                yield
            finally:
                _until_the_end.close()
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
        log.setLevel(level)
