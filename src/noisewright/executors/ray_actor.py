"""The worker as Ray runs it: a process on some host that builds a worker and lets it do jobs."""

from __future__ import annotations

import os
import platform
import sys
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
        self._given: tuple[Any, dict[str, bytes]] = None, {}
        self._worker: Worker | None = None

    def hold(self, token: Any, given: dict[str, bytes]) -> None:
        """Keep what was given as objects, in place of what was before.

        Args:
            token: what it is known by.
            given: pickles by name.
        """
        self._given = token, given
        self._kept.pop(OBJECTS, None)

    def open(self, blueprint: Blueprint, part: Part, token: Any, version: str) -> Opened:
        """Build a worker, in place of the one that there was.

        Args:
            blueprint: what from.
            part: what it needs.
            token: of the objects that were given; None where there are none.
            version: of noisewright, where the run is.
        """
        host, process = platform.node(), os.getpid()
        self._worker = None
        try:
            if version != __version__:
                raise ValueError(f"expected noisewright {version} as the driver has it, got {__version__}")
            held = self._given[1] if token is not None and token == self._given[0] else {}
            self._worker = blueprint.build(part, held, self._kept)
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
