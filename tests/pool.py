"""A third party's executor: a pool of processes that are started anew, each with a worker of its own."""

import itertools
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from noisewright.samplers.mixture import MixtureSampler

_worker = None
_workers = {}


def keep(worker):
    global _worker
    _worker = worker


def do(job):
    return _worker.do(job)


class Pool:
    """As the docstring of :class:`noisewright.executors.protocol.Executor` has it."""

    def __init__(self, workers=1):
        self.workers = workers

    def start(self, worker, request=None):
        self._pool = ProcessPoolExecutor(self.workers, get_context("spawn"), keep, (worker,))

    def submit(self, job):
        return self._pool.submit(do, job)

    def close(self):
        self._pool.shutdown(cancel_futures=True)


def do_with(number, worker, job):
    if number not in _workers:
        _workers.clear()
        _workers[number] = pickle.loads(worker)
    return _workers[number].do(job)


class Shared:
    """Processes that stay for several runs, each with a worker of its own."""

    _numbers = itertools.count()

    def __init__(self, processes, workers=1):
        self._pool = processes
        self.workers = workers

    def start(self, worker, request=None):
        self._worker = next(self._numbers), pickle.dumps(worker)

    def submit(self, job):
        return self._pool.submit(do_with, *self._worker, job)

    def close(self):
        pass


class Forgetful(MixtureSampler):
    """Runs out of memory for more than two, in the middle of a way."""

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        if len(x) > 2 and stop - start > 1:
            super().denoise(x, start, start + 1, state, noise, seeds)
            raise torch.OutOfMemoryError("no memory left")
        return super().denoise(x, start, stop, state, noise, seeds)


class Failing(MixtureSampler):
    """A model that does not work."""

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        raise RuntimeError("the model broke")
