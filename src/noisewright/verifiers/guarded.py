"""Somebody else's code, called so that it does no harm: what it prints is no output, whatever it raises is an error.

Verifiers, and whatever else is named as FILE.py:FUNCTION or comes with a plug-in, are such code. The command line's own
standard output is protected besides (:mod:`~.output`), against what this module cannot reach: threads, other
processes, and writes to the file descriptor.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

from noisewright.outside.messages import first_line
from noisewright.outside.texts import clean

P = ParamSpec("P")
T = TypeVar("T")

LONGEST = 300
"""Characters of what an error says."""


class Escaped(Exception):
    """Somebody else's code raised what no ``except Exception`` catches, such as the SystemExit of ``sys.exit()``.

    Attributes:
        error: what it raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(said(error))
        self.error = error


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function``; what it prints goes to standard error.

    Raises:
        KeyboardInterrupt: as it is, and so is what a handler of a signal raises: these are wishes of the person or the
            program, wherever they meet it.
        Escaped: in place of any other BaseException that is no Exception.
        Exception: as the function raises it.
    """
    process = os.getpid()
    try:
        with quiet():
            return function(*args, **kwargs)
    except BaseException as error:
        if os.getpid() != process:
            _end_fork(error)
        if isinstance(error, (Exception, KeyboardInterrupt)):
            raise
        if _by_signal(error):
            raise
        raise Escaped(error) from error
    finally:
        if os.getpid() != process:
            _end_fork(None)


def _end_fork(error: BaseException | None) -> NoReturn:
    """End a process that ``function`` forked and that came back: it would go on as a second run beside its parent."""
    code = error.code if isinstance(error, SystemExit) else None if error is None else 1
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def named(error: BaseException) -> str:
    """The class of an error; of :class:`Escaped`, of what escaped."""
    return type(error.error if isinstance(error, Escaped) else error).__name__


def said(error: BaseException) -> str:
    """The first line of what an error says, at most :data:`LONGEST` characters; nothing where it cannot say it."""
    return clean(first_line(error, empty=""), LONGEST)


def raised_at(error: BaseException, file: str | None) -> str:
    """`` (FILE, line N)`` of the line of ``file`` in which an error arose; nothing where it did not come by there."""
    line = None
    trace = (error.error if isinstance(error, Escaped) else error).__traceback__
    while trace is not None and file is not None:
        if os.path.abspath(trace.tb_frame.f_code.co_filename) == os.path.abspath(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and line is None and error.lineno:
        line = error.lineno
    return "" if line is None or file is None else f" ({clean(os.path.basename(file), 60)}, line {line})"


def _by_signal(error: BaseException) -> bool:
    """Whether it was raised in a handler of a signal that Python has."""
    handlers = {getattr(signal.getsignal(one), "__code__", None) for one in signal.valid_signals()}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


class _Inside(threading.local):
    """How many guarded calls this thread is in."""

    depth = 0


_inside = _Inside()
_lock = threading.Lock()


class _Aside:
    """In place of ``sys.stdout``: standard error for threads that are in a guarded call, the stream itself for others.

    ``contextlib.redirect_stdout`` takes the output of all threads, and two of them at once leave it taken.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.users = 0

    def close(self) -> None:
        """Leave open what others still write to."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr if _inside.depth and sys.stderr is not None else self._stream, name)


@contextmanager
def quiet() -> Iterator[None]:
    """What this thread prints inside goes to standard error."""
    with _lock:
        aside = sys.stdout if isinstance(sys.stdout, _Aside) else None
        if aside is None and sys.stdout is not None:
            sys.stdout = aside = _Aside(sys.stdout)
        if aside is not None:
            aside.users += 1
    _inside.depth += 1
    try:
        yield
    finally:
        _inside.depth -= 1
        if aside is not None:
            with _lock:
                aside.users -= 1
                if not aside.users and sys.stdout is aside:
                    sys.stdout = aside._stream
