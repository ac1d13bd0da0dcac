"""The executor of many machines: workers are Ray actors, wherever the cluster puts them."""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from noisewright.executors import ray_cluster
from noisewright.executors.aside import Aside
from noisewright.executors.by_value import ByValue
from noisewright.executors.optional import Blueprint, Part
from noisewright.executors.protocol import Handle, Job, ScoreJob, Worker
from noisewright.executors.ray_cluster import Cluster
from noisewright.executors.ray_crew import UNLIMITED, Crew, Task
from noisewright.executors.ray_hand import Sent, Wanted
from noisewright.outside.busy import processors
from noisewright.outside.messages import first_line, short
from noisewright.samplers.fingerprint import fingerprint

MOST_WORKERS = 1024
MOST_GPUS = 64
MOST_CPUS = 4096

LOOK_SECONDS = 0.02
"""Between two looks at what a server said, while workers are waited for too."""

_tokens = itertools.count()

log = logging.getLogger("noisewright")


class RayExecutor:
    """Does jobs in Ray actors, each with a model and verifiers of its own; the run alone decides and writes.

    Actors build both from what was asked for; what was given as objects is sent to them by value. Verifiers that wait
    for servers are asked from this process. A job of an actor that dies is done by another one.

    Workers end with the run, or, of several runs one after the other, with the block::

        with nw.RayExecutor("10.0.0.1:6379", workers=8) as executor:
            for prompt in prompts:
                nw.search("stabilityai/sdxl-turbo", prompt, executor=executor)

    which keep what they have loaded.

    Args:
        address: ``HOST:PORT`` of the head of a cluster that is there, or ``auto``; None starts one on this machine for
            the run, and ends it with it.
        workers: how many make images; by default as many as the cluster has GPUs for, or one for each host.
        gpus_per_worker: for each; a part of one lets several share it. By default 1 where the model is on a GPU.
        verifier_workers: how many more only score, so that no verifier needs memory beside a model.
        cpus_per_worker: processors of each, which it computes with as many threads as; by default 1 beside a GPU, else
            an even part of a host's.

    Raises:
        ValueError: in one line, on numbers that cannot be; of what the cluster cannot, when it is joined.
    """

    asks_servers = True

    def __init__(
        self, address: str | None = None, *, workers: int | None = None, gpus_per_worker: float | None = None,
        verifier_workers: int = 0, cpus_per_worker: int | None = None,
    ) -> None:  # fmt: skip
        _check("workers", workers, 1, MOST_WORKERS, whole=True)
        _check("verifier_workers", verifier_workers, 0, MOST_WORKERS, whole=True)
        _check("cpus_per_worker", cpus_per_worker, 1, MOST_CPUS, whole=True)
        _check("gpus_per_worker", gpus_per_worker, 0, MOST_GPUS, whole=(gpus_per_worker or 0) > 1)
        self.address = address
        self.workers = workers or 1
        self.scorers = verifier_workers
        self._asked = workers
        self._gpus = gpus_per_worker
        self._cpus = cpus_per_worker
        self._blueprint: Blueprint | None = None
        self._crew: Crew | None = None
        self._served: frozenset[str] = frozenset()
        self._aside: Aside | None = None
        self._given: dict[str, tuple[Any, str | None, Sent]] = {}
        self._lasts = False
        ray_cluster.check_installed()

    def reach(self) -> None:
        """Refuse an address where nobody listens, before a model is loaded.

        Raises:
            ValueError: in one line.
        """
        if self.address is not None:
            ray_cluster.knock(self.address)

    def build_from(self, blueprint: Blueprint) -> None:
        """Be given what workers are built from; without it the worker of this process is sent itself."""
        self._blueprint = blueprint

    def start(self, worker: Worker, request: Mapping[str, Any] | None = None) -> None:
        """Join the cluster, and have a worker built in every actor.

        Raises:
            ValueError: in one line, on a cluster that is not there or has too little, and on a worker that cannot be
                built on a host, or would be another there.
        """
        blueprint, self._blueprint = self._blueprint or ByValue.of(worker), None
        try:
            if self._crew is None:
                self._crew = self._gathered(is_on_gpu(worker))
            if self.workers > 1 and (request or {}).get("target"):
                log.warning("with a target %d workers take turns: nothing may be made after what reaches it",
                            self.workers)  # fmt: skip
            self._end_asking()
            self._served, self._aside = blueprint.served, Aside(worker) if blueprint.served else None
            self._given = self._sent(blueprint.given)
            self._crew.open(blueprint, {name: sent for name, (*_, sent) in self._given.items()})
        except BaseException:
            self.release()
            raise

    def submit(self, job: Job) -> Handle:
        """Have a job done as soon as may be."""
        if self._crew is None:
            raise ValueError("expected a worker before the first job, got none: start() takes it")
        if isinstance(job, ScoreJob) and self._aside is not None and not self._served.isdisjoint(job.names):
            return self._aside.submit(job)  # whose worker, of this process, has the others as well
        return self._crew.submit(job)

    def wait(self, handles: Sequence[Handle]) -> None:
        """Until one of several jobs may be done."""
        crew = self._crew
        assert crew is not None  # noqa: S101 - it was asked to do something
        tasks = [one for one in handles if isinstance(one, Task)]
        if len(tasks) == len(handles):
            crew.wait(tasks)
            return
        while not any(one.done() for one in handles):
            time.sleep(LOOK_SECONDS)

    def most_next(self) -> int:
        """How many particles the worker that comes next can make together; very many while it has memory enough."""
        crew = self._crew
        return UNLIMITED if crew is None else crew.most(crew.idle or crew.makers)

    def largest(self) -> int:
        """The most that any worker can make together."""
        return UNLIMITED if self._crew is None else self._crew.most(self._crew.makers)

    def close(self) -> None:
        """End the workers, whatever they do, and the cluster where it is this run's own; not within a ``with``."""
        if not self._lasts:
            self.release()
        elif self._crew is not None:
            self._crew.forget()

    def __enter__(self) -> RayExecutor:
        self._lasts = True
        return self

    def __exit__(self, *error: object) -> None:
        self._lasts = False
        self.release()

    def release(self) -> None:
        """End the workers, whatever they do, and the cluster where it is this executor's own."""
        crew, self._crew = self._crew, None
        self._end_asking()
        self._given = {}
        if crew is not None:
            try:
                crew.close()
            finally:
                ray_cluster.left()

    @contextmanager
    def apart(self, on_gpu: bool) -> Iterator[list[RayExecutor]]:
        """As :meth:`noisewright.executors.optional.DealsRuns.apart` says: a run has one worker at a time.

        Where some only score, each run has one of these, and its share of the others.
        """
        cluster = ray_cluster.joined(self.address)
        some: list[RayExecutor] = []
        try:
            wanted = self.wanted(cluster, on_gpu)
            cpus = wanted.threads if self.address is None else wanted.options["num_cpus"]
            count = min(self.workers, self.scorers or self.workers)
            for place in range(count):
                makers, scorers = (_share(number, place, count) for number in (self.workers, self.scorers))
                some.append(RayExecutor(
                    self.address, workers=makers, gpus_per_worker=self._gpus, verifier_workers=scorers,
                    cpus_per_worker=cpus,
                ))  # fmt: skip
                some[-1]._lasts = True
            yield some
        finally:
            for one in some:
                one.release()
            ray_cluster.left()

    def _end_asking(self) -> None:
        if self._aside is not None:
            self._aside.close()
        self._aside = None

    # What there should be

    def _gathered(self, on_gpu: bool) -> Crew:
        cluster = ray_cluster.joined(self.address)
        try:
            return Crew(self.wanted(cluster, on_gpu))
        except BaseException:
            ray_cluster.left()
            raise

    def wanted(self, cluster: Cluster, on_gpu: bool) -> Wanted:
        """What actors to ask the cluster for.

        Raises:
            ValueError: in one line, on more than it has.
        """
        gpus = self._gpus_each(on_gpu)
        if self._asked is None:
            fits = cluster.places(0, gpus) if gpus else sum(cpus > 0 for cpus, _ in cluster.hosts)
            self.workers = max(1, fits - self.scorers * bool(gpus))
        count = self.workers + self.scorers
        if gpus and not cluster.gpus:
            raise ValueError("expected a GPU for each worker in the Ray cluster, got none")
        if count * gpus > cluster.gpus + ray_cluster.ROUNDING:
            each = f"{count} workers of {gpus:g}" if gpus != 1 else f"{count} workers"
            raise ValueError(f"expected {count * gpus:g} GPUs in the Ray cluster ({each}), got {cluster.gpus:g}")
        makers: Part = "model" if self.scorers else "all"
        scorers: Part = "verifiers"
        parts = (*[makers] * self.workers, *[scorers] * self.scorers)
        if self.address is None:
            if count > ray_cluster.MOST_LOCAL:
                most = ray_cluster.MOST_LOCAL
                raise ValueError(f"expected at most {most} workers on one machine, got {count}: ray:ADDRESS has more")
            _check_places(cluster, count, 0, gpus)
            even = None if os.environ.get("OMP_NUM_THREADS") else max(1, processors() // count)
            return Wanted(parts, {"num_cpus": 0, "num_gpus": gpus}, self._cpus or even)
        cpus = self._cpus or (1 if gpus else _even(cluster, count))
        if count * cpus > cluster.cpus + ray_cluster.ROUNDING:
            raise ValueError(f"expected {count * cpus} processors in the Ray cluster, got {cluster.cpus:g}")
        _check_places(cluster, count, cpus, gpus)
        return Wanted(parts, {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}, None)

    def _gpus_each(self, on_gpu: bool) -> float:
        if self._gpus and not on_gpu:
            raise ValueError(f"expected gpus_per_worker 0 with a model on a CPU, got {self._gpus:g}: --device cuda")
        return float(on_gpu) if self._gpus is None else self._gpus

    # By value

    def _sent(self, given: Mapping[str, Any]) -> dict[str, tuple[Any, str | None, Sent]]:
        """Objects by name, each with what it is known by and where it is in the cluster: the same as before for the
        same objects, as long as nothing was changed in them.
        """
        found: dict[str, tuple[Any, str | None, Sent]] = {}
        for name, one in given.items():
            before, now = self._given.get(name), _fingerprint(one)
            if before is not None and before[0] is one and before[1] == now:
                found[name] = before
                continue
            pickled = _pickled(name, one)
            with ray_cluster.errors_told():
                found[name] = one, now, Sent(next(_tokens), ray_cluster.ray().put(pickled))
        return found


def _fingerprint(value: Any) -> str | None:
    """What tells an object from itself as it was before, a pipeline from the same with a LoRA; None of others."""
    if hasattr(value, "components"):
        return str(fingerprint(value))
    found = getattr(value, "fingerprint", None)
    return None if found is None else str(found)


def _pickled(name: str, value: Any) -> bytes:
    """A value that any process can read.

    Raises:
        ValueError: in one line, on one that none can.
    """
    from ray import cloudpickle

    try:
        found: bytes = cloudpickle.dumps(value)
    except Exception as error:
        what = type(value).__name__
        raise ValueError(
            f"expected {name} as something that other processes can be sent, got a {what} ({first_line(error, 200)}): "
            "give a model by its name or directory, a verifier by its name or as FILE.py:NAME"
        ) from None
    return found


def _check(name: str, value: float | None, least: int, most: int, *, whole: bool) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"expected {name} in [{least}, {most}], got {short(value)}")
    if whole and value != int(value):
        raise ValueError(f"expected {name} as a whole number, got {short(value)}")


def _share(number: int, place: int, count: int) -> int:
    """The share of a number that one of ``count`` gets."""
    return number // count + (place < number % count)


def is_on_gpu(worker: Any) -> bool:
    """Whether the worker of this process has its model on a GPU: those elsewhere are to be like it."""
    samplers = getattr(worker, "samplers", {})
    return any(str(one.description.get("device", "cpu")).startswith("cuda") for one in samplers.values())


def _even(cluster: Cluster, count: int) -> int:
    """An even part of a host's processors, of the host with the fewest."""
    hosts = [cpus for cpus, _ in cluster.hosts if cpus]
    return max(1, int(min(hosts, default=1) // math.ceil(count / max(1, len(hosts)))))


def _check_places(cluster: Cluster, count: int, cpus: int, gpus: float) -> None:
    """Refuse workers for which the cluster as a whole has enough, and no host has room: they would be waited for.

    Raises:
        ValueError: in one line.
    """
    places = cluster.places(cpus, gpus)
    if places < count:
        parts = [f"{cpus} processor{'s' * (cpus > 1)}"] * bool(cpus) + [f"{gpus:g} GPU{'s' * (gpus > 1)}"] * bool(gpus)
        each = " and ".join(parts)
        raise ValueError(f"expected room for {count} workers of {each} each on the hosts of the Ray cluster, got room "
                         f"for {places}")  # fmt: skip
