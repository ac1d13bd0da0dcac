"""The process that holds a server's model: started where there is none, told jobs, and asked what came of them.

There is one for all that a server does, whoever asks for it, and its jobs share the one model that it has in memory
(:class:`noisewright.web.work.Works`). It outlives a server that is killed; the next one waits until it has ended before
it starts its own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from noisewright.run.locks import LOCK, is_being_written

FOLDER = "model"
"""In a server's own folder: what the process holds the lock of."""

LOOK_SECONDS = 0.2
END_SECONDS = 5.0

MOST_DEATHS = 5
"""Processes that may end under a job that waits, for which it need not be to blame."""

MOST_BEGUN = 2
"""Of these, how many may end after its turn came; the second time it has been alone."""

Tell = Callable[[Mapping[str, Any]], None]


@dataclass
class _Waiting:
    """A job that was told to a process."""

    process: subprocess.Popen[str]
    heard: SimpleQueue[dict[str, Any]] = field(default_factory=SimpleQueue)
    begun: bool = False


class Process:
    """What does jobs as :class:`noisewright.web.work.Works` does, in a process of its own.

    Args:
        folder: of the server, where its lock is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._lock = threading.RLock()
        self._starting = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._waiting: dict[str, _Waiting] = {}
        self._ending = False

    @property
    def pid(self) -> int | None:
        """Of the process, or None where there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    @property
    def busy(self) -> bool:
        """Whether it has something to do."""
        return bool(self._waiting)

    @property
    def outlived(self) -> bool:
        """Whether the process of a server that was killed works still."""
        return self.pid is None and (self._folder / LOCK).exists() and bool(is_being_written(self._folder))

    def do(self, job: Mapping[str, Any], tell: Tell = lambda event: None) -> dict[str, Any]:
        """As :meth:`noisewright.web.work.Works.do`; where the process ends under the job, another one does it again."""
        begun, code = 0, None
        for _ in range(MOST_DEATHS):
            entered = False

            def heard(event: Mapping[str, Any]) -> None:
                nonlocal entered
                entered = True
                tell(event)

            found = self._asked({**job, "alone": True} if begun else job, heard)
            if "answer" in found:
                answer: dict[str, Any] = found["answer"]
                return answer
            begun, code = begun + entered, found["died"]
            if self._ending or begun == MOST_BEGUN:
                break
        if self._ending:
            return {"ok": False, "why": "stopped", "error": "the server ends"}
        return {"ok": False, "why": "failed", "error": f"the process that held the model ended (exit code {code})"}

    def stop(self, key: str) -> None:
        """End a job: a run after its micro-batch, one that waits at once."""
        with self._lock:
            one = self._waiting.get(key)
            if one is not None:
                self._write(one.process, {"stop": key})

    def end(self) -> None:
        """Have all jobs end soon: runs after their micro-batch, and what has not begun to write at once."""
        with self._lock:
            self._ending = True
            keys = list(self._waiting)
            idle = not any(one.begun for one in self._waiting.values())
            process = self._process
        for key in keys:
            self.stop(key)
        if keys and idle and process is not None:
            process.terminate()

    def close(self) -> None:
        """End the process, which has nothing to do any more."""
        self.end()
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)

    def _asked(self, job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        """What a process says to a job: its ``answer``, or that it ``died``, with its exit code."""
        key = job["id"]
        with self._starting:  # one process, however many ask at once
            process = self._started()
        if process is None:
            return {"died": None}
        with self._lock:
            one = self._waiting[key] = _Waiting(process)
            alive = process is self._process
            if alive:
                self._write(process, job)
        try:
            while alive:
                found = one.heard.get()
                if "event" not in found:
                    return found
                one.begun = one.begun or found["event"]["kind"] == "begun"
                tell(found["event"])
            return {"died": process.poll()}
        finally:
            with self._lock:
                del self._waiting[key]

    @staticmethod
    def _write(process: subprocess.Popen[str], what: Mapping[str, Any]) -> None:
        with suppress(OSError, ValueError):  # it has ended, which its reader says
            process.stdin.write(json.dumps(what) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]

    def _started(self) -> subprocess.Popen[str] | None:
        """The process; None where the server ends before there is one.

        Raises:
            ValueError: in one line, where the directory cannot be written.
        """
        if self._process is not None:
            return self._process
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"expected a directory that can be written, got {self._folder.parent.parent}: "
                             f"{error.strerror or error}") from error  # fmt: skip
        while (self._folder / LOCK).exists() and is_being_written(self._folder):  # by that of a server that was killed
            if self._ending:
                return None
            time.sleep(LOOK_SECONDS)
        command = [sys.executable, "-P", "-m", "noisewright.web.work", str(self._folder)]
        with self._lock:
            if self._ending:
                return None
            process = subprocess.Popen(  # noqa: S603 - our own module
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
                start_new_session=True,
            )  # fmt: skip
            self._process = process
        threading.Thread(target=self._read, args=(process,), name="model", daemon=True).start()
        return process

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Give each job what is said about it, until the process ends."""
        with suppress(ValueError, OSError):
            for line in process.stdout:  # type: ignore[union-attr]
                found = json.loads(line)
                with self._lock:
                    one = self._waiting.get(found["id"])
                if one is not None:
                    one.heard.put(found)
        code = process.wait()
        with self._lock:
            if self._process is process:
                self._process = None
            for one in self._waiting.values():
                if one.process is process:
                    one.heard.put({"died": code})
