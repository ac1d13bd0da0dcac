"""Work of a run's own that is done beside what it would otherwise wait for: files written while verifiers look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context


class Beside:
    """One piece of work at a time, in a thread of its own; whoever began it waits for its end before it goes on.

    What is begun is ended, also when the process is told to end meanwhile: the thread is no daemon.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self, work: Callable[[], None]) -> None:
        """Let ``work`` be done; what was begun before is ended first.

        Raises:
            BaseException: what that raised.
        """
        self.end()
        context = copy_context()

        def doing() -> None:
            try:
                context.run(work)
            except BaseException as error:  # it is raised where it is waited for
                self._error = error

        self._thread = threading.Thread(target=doing, name="noisewright-beside")
        self._thread.start()

    def end(self) -> None:
        """Wait until it is done; nothing where nothing was begun.

        Raises:
            BaseException: what the work raised.
        """
        thread = self._thread
        if thread is None:
            return
        try:
            thread.join()
        except BaseException:  # Ctrl-C: what is written is written to its end
            thread.join()
            raise
        finally:
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
