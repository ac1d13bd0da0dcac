"""The worker as Ray runs it: a process on some host that builds a worker and lets it do jobs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from noisewright import __version__
from noisewright.executors.optional import OBJECTS, Blueprint, Part
from noisewright.executors.protocol import Job, Outcome, Worker
from noisewright.outside.messages import first_line
from noisewright.outside.texts import clean
from noisewright.samplers.quiet import quiet

LONGEST = 1000


@dataclass(frozen=True)
class Opened:
    """What an actor says once it has a worker.

    Attributes:
        host: its name.
        process: its number there.
        refused: why it has none, in one line; None where it has.
    """

    host: str
    process: int
    refused: str | None = None


@dataclass(frozen=True)
class Said:
    """How a job went.

    Attributes:
        shrank_to: where memory ran out, as :class:`~noisewright.executors.protocol.Outcome` has it.
        raised: what the worker raised, which can be pickled.
    """

    shrank_to: int | None = None
    raised: Exception | None = None


class RayActor:
    """What becomes a Ray actor.

    Args:
        threads: how many it computes with; None for what torch takes by itself.
    """

    def __init__(self, threads: int | None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._kept: dict[Any, Any] = {}
        self._given: dict[str, tuple[int, bytes]] = {}
        self._worker: Worker | None = None

    def begin(self) -> None:
        """Nothing: it says that its process is there, before anything is loaded."""

    def hold(self, name: str, token: int, given: bytes) -> None:
        """Keep something that was given as an object, in place of what had its name before.

        Args:
            name: the blueprint's for it.
            token: what this one is known by.
            given: its pickle.
        """
        self._given[name] = token, given
        self._kept.get(OBJECTS, {}).pop(name, None)

    def open(self, blueprint: Blueprint, part: Part, tokens: Mapping[str, int], version: str) -> Opened:
        """Build a worker, in place of the one that there was.

        Args:
            blueprint: what from.
            part: what it needs.
            tokens: of the objects that were given, by name.
            version: of noisewright, where the run is.
        """
        host, process = platform.node(), os.getpid()
        self._worker = None
        try:
            if version != __version__:
                raise ValueError(f"expected noisewright {version} as the driver has it, got {__version__}")
            self._given = {name: self._given[name] for name in tokens}  # others are of runs before
            held = {name: pickled for name, (_, pickled) in self._given.items()}
            self._worker = blueprint.build(part, held, self._kept)
            for name in self._kept.get(OBJECTS, ()):  # made of it already: it need not be in memory twice
                if name in self._given:
                    self._given[name] = self._given[name][0], b""
        except Exception as error:
            return Opened(host, process, clean(first_line(error), LONGEST))
        return Opened(host, process)

    def do(self, job: Job) -> tuple[Said, Outcome]:
        """Have a job done. What the worker raises is told, so that whatever else ends a call is a death."""
        assert self._worker is not None  # noqa: S101 - it was opened
        try:
            with quiet() if "diffusers" in sys.modules else nullcontext():  # which it would load
                found = self._worker.do(job)
        except Exception as error:
            return Said(raised=_sendable(error)), Outcome()
        return Said(shrank_to=found.shrank_to), found

    def stop(self) -> None:
        """End this process at once."""
        os._exit(0)


def _sendable(error: Exception) -> Exception:
    """An error that another process can raise: itself, or its class and what it says in one line."""
    import pickle

    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - of this process
        if type(again) is type(error) and str(again) == str(error):
            return error
    except Exception:  # noqa: S110 - it is told in words
        pass
    return RuntimeError(clean(f"{type(error).__name__}: {first_line(error)}", LONGEST))
