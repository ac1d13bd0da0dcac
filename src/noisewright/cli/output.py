"""What the command line prints: while a command runs, its standard output is its own.

A verifier's ``print``, ``os.write(1, ...)``, a process that it starts, a thread that it leaves behind: whatever else
writes to standard output goes to standard error, so that ``--json`` is one JSON object.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

STDOUT, STDERR = 1, 2

_own: TextIO | None = None


def stream() -> TextIO:
    """Where a command writes what was asked for; ``sys.stdout`` is for everybody else."""
    return sys.stdout if _own is None else _own


def print_line(text: str) -> None:
    """One line on standard output."""
    stream().write(f"{text}\n")


def reserve(command: Any, for_good: bool) -> None:
    """Run the functions behind a click command, and behind those that it has, inside of :func:`reserved`."""
    for one in getattr(command, "commands", {}).values():
        reserve(one, for_good)
    if not hasattr(command, "commands") and command.callback is not None:
        command.callback = _inside(command.callback, for_good)


def _inside(function: Callable[..., Any], for_good: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with reserved(for_good):
            return function(*args, **kwargs)

    return run


@contextmanager
def reserved(for_good: bool = False) -> Iterator[None]:
    """Standard output belongs to :func:`stream` inside; for everybody else it is standard error.

    Args:
        for_good: leave it so at the end, for threads and exit handlers have not had their last word then; for a process
            that ends with this.
    """
    global _own
    before, outer = sys.stdout, _own
    _own, undo = _taken(before)
    sys.stdout = _elsewhere()
    try:
        yield
        _own.flush()
    finally:
        if not for_good:
            if _own is not before:
                with suppress(OSError, ValueError):  # its reader has gone, which was said
                    _own.close()
            _own = outer
            for one in (before, sys.__stdout__):  # what others wrote to these belongs to standard error
                with suppress(OSError, ValueError, AttributeError):
                    one.flush()  # type: ignore[union-attr]
            _flush_c()
            undo()
            sys.stdout = before


def _taken(before: TextIO | None) -> tuple[TextIO, Callable[[], None]]:
    """A stream to what is standard output now, and how to give it back; its descriptor is standard error's then."""
    if before is None:  # the process has none
        return open(os.devnull, "w"), lambda: None
    try:
        number = before.fileno()
        ours = number == STDOUT or os.path.sameopenfile(number, STDOUT)
    except (OSError, ValueError, AttributeError):  # a stream without a file, or a closed descriptor
        ours = False
    if not ours:
        return before, lambda: None
    before.flush()
    _flush_c()
    kept = os.dup(STDOUT)
    _point_at_stderr()

    def undo() -> None:
        os.dup2(kept, STDOUT)
        os.close(kept)

    if number != STDOUT:
        return before, undo
    return open(os.dup(kept), "w", encoding=before.encoding, errors=before.errors), undo


def _point_at_stderr() -> None:
    try:
        os.dup2(STDERR, STDOUT)
    except OSError:  # there is no standard error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDOUT)
        os.close(nowhere)


def _elsewhere() -> TextIO:
    return open(os.devnull, "w") if sys.stderr is None else sys.stderr


def _flush_c() -> None:
    """Write out what C code has buffered for standard output."""
    with suppress(Exception):  # no such library, or no ctypes: then nothing is known of its buffers
        import ctypes

        ctypes.CDLL(None).fflush(None)


def is_gone(stream: Any) -> bool:
    """Whether a stream was a terminal that has been closed."""
    try:
        os.ttyname(stream.fileno())
    except OSError as error:
        return error.errno == errno.EIO
    except (ValueError, AttributeError):  # no stream, or none with a descriptor
        return False
    return False


def close_stdout() -> None:
    """Let the interpreter's last flush go nowhere."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream().fileno())
