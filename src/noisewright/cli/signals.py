"""Signals that end a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP (a closed terminal) end a run as Ctrl-C does: with the best so far saved.

    SIGINT too is set here, because a shell script starts its background jobs with it ignored. A SIGHUP that is ignored
    stays so: that is what nohup asks for.
    """
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        if hangup in before:  # it comes from the kernel and from the shell, and must not end the saving
            signal.signal(hangup, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
