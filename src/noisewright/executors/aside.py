"""Servers, asked from a thread of this process while workers elsewhere go on."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from contextvars import copy_context

import torch

from noisewright.executors.local import compute_alone
from noisewright.executors.protocol import Outcome, ScoreJob, Worker

_with_servers = threading.Lock()
"""One job of this process is with the servers at a time, whichever of several runs side by side it is of."""


class Answer:
    """A scoring job of :class:`Aside`: a :class:`~noisewright.executors.protocol.Handle`."""

    def __init__(self, job: ScoreJob) -> None:
        self.job = job
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.over = threading.Event()
        self.grad, self.context = torch.is_grad_enabled(), copy_context()

    def done(self) -> bool:
        return self.over.is_set()

    def result(self) -> Outcome:
        self.over.wait()
        if self.error is not None:
            raise self.error
        assert self.outcome is not None  # noqa: S101 - one of the two is there
        return self.outcome


class Aside:
    """Asks servers from a thread of this process, one job after the other.

    Args:
        worker: of this process, which has the verifiers and their keys.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._line: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        # Not an executor, whose threads are waited for when Python ends: a silent server would hold it up.
        threading.Thread(target=self._serve, name="noisewright-servers", daemon=True).start()

    def submit(self, job: ScoreJob) -> Answer:
        """Have a job done once those before it are."""
        answer = Answer(job)
        self._line.put(answer)
        return answer

    def close(self) -> None:
        """Ask nobody after the job in hand."""
        self._line.put(None)

    def _serve(self) -> None:
        compute_alone()
        while (answer := self._line.get()) is not None:
            with suppress(BaseException), torch.set_grad_enabled(answer.grad):  # raised where it is asked for
                answer.context.run(self._do, answer)

    def _do(self, answer: Answer) -> None:
        try:
            with _with_servers:
                answer.outcome = self._worker.do(answer.job)
        except BaseException as error:
            answer.error = error
            raise
        finally:
            answer.over.set()
