"""The Ray cluster of this process: one that is there, joined; or one of this process's own, which ends with it."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from noisewright.errors import RunInterrupted
from noisewright.outside import busy
from noisewright.outside.messages import first_line, short
from noisewright.outside.texts import clean

OLDEST = (2, 40)
"""The version of Ray from which on this works."""

INSTALL = "pip install 'noisewright[ray]'"

KNOCK_SECONDS = 10.0
"""For a cluster's head to take a connection; Ray itself waits for minutes."""

ROUNDING = 1e-9
"""Of parts of a GPU."""

MOST_PLACES = 2**20
"""Workers for which a host has room that ask nothing of it."""

MOST_LOCAL = 64
"""Workers of a cluster of this process's own, where each is a process on this machine."""

_lock = threading.Lock()


@dataclass
class _Held:
    """The connection that this process has: a process can be in one cluster at a time."""

    address: str | None = None
    count: int = 0
    is_ours: bool = False
    sigterm: Any = None
    level: int = logging.NOTSET


_held = _Held()


def check_installed() -> None:
    """Refuse where there is no Ray, without loading it.

    Raises:
        ValueError: in one line.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"expected Ray for the executor ray, got none installed: {INSTALL}")


def ray() -> Any:
    """The library.

    Raises:
        ValueError: in one line, where it is not installed, or too old.
    """
    try:
        found = importlib.import_module("ray")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "ray":
            raise ValueError(f"expected Ray for the executor ray, got none installed: {INSTALL}") from None
        raise ValueError(f"expected Ray for the executor ray, got one that fails: {first_line(error)}") from None
    version = str(getattr(found, "__version__", "0"))
    numbers = tuple(int(one) for one in version.split(".")[:2] if one.isdigit())
    if numbers < OLDEST:
        raise ValueError(f"expected Ray {OLDEST[0]}.{OLDEST[1]} or newer, got {version}: {INSTALL}")
    return found


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is in.

    Attributes:
        address: as it was given; None for one of its own.
        hosts: processors and GPUs of each.
    """

    address: str | None
    hosts: tuple[tuple[float, float], ...]

    @property
    def cpus(self) -> float:
        return sum(cpus for cpus, _ in self.hosts)

    @property
    def gpus(self) -> float:
        return sum(gpus for _, gpus in self.hosts)

    def places(self, cpus: float, gpus: float) -> int:
        """How many workers of so much each have room: each on one host, and each part of a GPU on one GPU."""
        return sum(_places(host, cpus, gpus) for host in self.hosts)


def _places(host: tuple[float, float], cpus: float, gpus: float) -> int:
    found = [int(host[0] / cpus + ROUNDING)] if cpus else []
    if 0 < gpus < 1:
        found.append(int(host[1] + ROUNDING) * int(1 / gpus + ROUNDING))
    elif gpus:
        found.append(int(host[1] / gpus + ROUNDING))
    return min(found, default=MOST_PLACES)


def joined(address: str | None) -> Cluster:
    """Join a cluster, or start one here; :func:`left` as often as this.

    Args:
        address: ``HOST:PORT`` of its head, or ``auto``; None to start one.

    Raises:
        ValueError: in one line, where there is none, or this process is in another.
    """
    library = ray()
    with _lock:
        if _held.count and _held.address != address:
            got = f"{_named(address)} beside {_named(_held.address)}"
            raise ValueError(f"expected one Ray cluster for a process, got {got}")
        if not _held.count:
            _held.is_ours = not library.is_initialized()
            if _held.is_ours:
                _enter(library, address)
            _held.address = address
        _held.count += 1
        try:
            return _counted(library, address)
        except BaseException:
            _leave(library)
            raise


def left() -> None:
    """Leave the cluster, where nobody else of this process needs it; one of its own ends."""
    with _lock:
        _leave(ray())


def _leave(library: Any) -> None:
    _held.count -= 1
    if _held.count == 0 and _held.is_ours:
        with suppress(Exception):
            library.shutdown()
        _put_back(_held.sigterm)
        logging.getLogger("ray").setLevel(_held.level)


def _enter(library: Any, address: str | None) -> None:
    """Connect, with the signals of this process as they were: Ray takes SIGTERM for itself."""
    if address is not None:
        knock(address)
    debug = bool(os.environ.get("NOISEWRIGHT_DEBUG"))
    quiet = {"log_to_driver": debug, "logging_level": "INFO" if debug else "CRITICAL", "configure_logging": debug}
    library_log = logging.getLogger("ray")
    _held.level = library_log.level
    if not debug:
        library_log.setLevel(logging.CRITICAL)
    own = {"include_dashboard": False, "num_cpus": busy.processors()} if address is None else {}
    _held.sigterm = signal.getsignal(signal.SIGTERM)
    try:
        library.init(address="local" if address is None else address, **quiet, **own)
    except (ValueError, ConnectionError, RuntimeError, OSError) as error:
        said = clean(first_line(error), 300)
        raise ValueError(f"expected a Ray cluster that takes this process, got {_named(address)}: {said}") from None
    finally:
        _put_back(_held.sigterm)


def _put_back(handler: Any) -> None:
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _named(address: str | None) -> str:
    return "one of its own" if address is None else short(address)


def knock(address: str) -> None:
    """Refuse an address where nobody listens before Ray waits for it.

    Raises:
        ValueError: in one line.
    """
    if address in ("auto", "local") or "://" in address:
        if address == "local":
            raise ValueError("expected ray or ray:HOST:PORT as the executor, got 'ray:local'")
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 2**16 or not host:
        raise ValueError(f"expected a Ray cluster as HOST:PORT or auto, got {short(address)}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
    except OSError as error:
        said = error.strerror or first_line(error)
        raise ValueError(f"expected a Ray cluster at {short(address)}, got nobody there: {said}") from None


def _counted(library: Any, address: str | None) -> Cluster:
    nodes = [one["Resources"] for one in library.nodes() if one.get("Alive")]
    return Cluster(address, tuple((float(one.get("CPU", 0)), float(one.get("GPU", 0))) for one in nodes))


FULL = ("ObjectStoreFullError", "OutOfDiskError")
"""What Ray calls it where a value has no place in its object store, nor on the disk behind it."""


def full(error: Exception) -> RunInterrupted | None:
    """What is to be said where an object store is full; None where an error is about something else."""
    what = next((name for name in FULL if name in f"{type(error).__name__} {error}"), None)
    if what is None:
        return None
    return RunInterrupted(
        f"Ray's object store is full ({what}): give it more (ray start --object-store-memory, disk for what it "
        "spills), or take a smaller --batch-size"
    )


@contextmanager
def errors_told() -> Iterator[None]:
    """What Ray raises while a job is handed over, in one line.

    Raises:
        RunInterrupted: where its object store and the disk behind it are full.
    """
    try:
        yield
    except importlib.import_module("ray.exceptions").RayError as error:
        said = full(error)
        if said is None:
            raise
        raise said from None
