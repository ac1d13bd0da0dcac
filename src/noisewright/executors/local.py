"""The executor of one process: one worker, and one thread for what waits for a server meanwhile."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import torch

from noisewright.executors.protocol import Job, Outcome, ScoreJob, Worker


class LocalExecutor:
    """Does jobs in this process, in the thread that asks for their outcomes and in the order of submission.

    A scoring job that waits for a server goes to a thread of its own as soon as another job stands behind it: the model
    works while the server does. One such job is with the servers at a time.
    """

    workers = 1

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._line: list[_Task] = []
        self._aside: _Task | None = None

    def start(self, worker: Worker, request: Mapping[str, Any] | None = None) -> None:
        self._worker = worker

    def submit(self, job: Job) -> _Task:
        if self._worker is None:
            raise ValueError("expected a worker before the first job, got none: start() takes it")
        first = self._line[0] if self._line else None
        free = self._aside is None or self._aside.done()
        if free and first is not None and first.waits:
            self._aside = self._line.pop(0)
            self._aside.work_aside()
        task = _Task(self, self._worker, job)
        self._line.append(task)
        return task

    def close(self) -> None:
        self._line.clear()

    def work_until(self, task: _Task) -> None:
        """Do what stands in line, in order, until ``task`` is done or nothing but it is waited for."""
        while self._line and not task.done():
            if self._line[0].waits and self._aside is not None and not self._aside.done():
                self._aside.wait()  # one is with the servers at a time
            else:
                self._line.pop(0).work()


class _Task:
    """A job of a :class:`LocalExecutor`."""

    def __init__(self, executor: LocalExecutor, worker: Worker, job: Job) -> None:
        self.job = job
        self._executor = executor
        self._worker = worker
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._over = threading.Event()

    @property
    def waits(self) -> bool:
        """Whether it mostly waits for servers."""
        return isinstance(self.job, ScoreJob) and self.job.waits

    def done(self) -> bool:
        return self._over.is_set()

    def wait(self) -> None:
        """Until it is done, by whomever."""
        self._over.wait()

    def result(self) -> Outcome:
        self._executor.work_until(self)
        self.wait()
        if self._error is not None:
            raise self._error
        assert self._outcome is not None  # noqa: S101 - one of the two is there
        return self._outcome

    def work(self) -> None:
        """Do it here. Ctrl-C is raised at once; what else the worker raises, when the outcome is asked for."""
        try:
            self._outcome = self._worker.do(self.job)
        except Exception as error:
            self._error = error
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._over.set()

    def work_aside(self) -> None:
        """Do it in a thread of its own."""
        grad, context = torch.is_grad_enabled(), copy_context()  # both belong to a thread

        def work() -> None:
            compute_alone()
            with torch.set_grad_enabled(grad), suppress(BaseException):  # which is raised where it is waited for
                context.run(self.work)

        # Not an executor, whose threads are waited for when Python ends: a silent server would hold it up after Ctrl-C.
        threading.Thread(target=work, name="noisewright-scoring", daemon=True).start()


def compute_alone() -> None:
    """Let what this thread computes be computed by it alone.

    With a pool of OpenMP threads of its own there would be more of them than cores, and those of the model would sleep
    between operations in place of waiting awake: denoising took 1.3 times as long beside it. (torch.set_num_threads
    would be the process's.) Where torch computes by something else than OpenMP there is nothing to do.
    """
    torch.get_num_threads()  # which sets the number of a new thread, once
    with suppress(AttributeError, OSError, TypeError):  # no such function; no such library; Windows
        ctypes.CDLL(None).omp_set_num_threads(1)
