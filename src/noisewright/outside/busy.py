"""Whether the processors here have other work, and how the threads that compute wait for each other then.

OpenMP's threads wait awake: at the end of each of the thousands of small loops of a step they spin until the last of
them is there. Alone on a machine that is fastest. Beside another process a thread that spins takes the processor from
the very one that it waits for, and a step takes several times as long; asleep they do not. How they wait has to be
said before torch is imported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

OF_THE_USER = ("OMP_", "GOMP_", "KMP_")
"""How the variables begin that say how OpenMP's threads behave: where one is set, somebody has decided that."""

LEAST, SHARE = 0.5, 0.1
"""Others that take more than so many processors, and more than this share of all, are in the way."""

LOOKS, BETWEEN_SECONDS = 6, 0.003
"""How often it is looked what runs at this moment, and how long between two looks."""


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def running_now() -> float | None:
    """How many threads besides this one run or wait for a processor at this moment, the mean of a few looks.

    None where the system does not say it (it is Linux's ``/proc/loadavg``).
    """
    counts: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        for look in range(LOOKS):
            if look:
                time.sleep(BETWEEN_SECONDS)
            text = Path("/proc/loadavg").read_text(encoding="ascii")
            counts.append(int(text.split()[3].partition("/")[0]) - 1)
    return max(0.0, sum(counts) / len(counts)) if counts else None


def load_average() -> float | None:
    """The mean number of threads that ran or waited for a processor in the last minute; None where nobody counts."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):  # Windows has none
        return None


def others() -> float:
    """How many of this process's processors other work takes: the less of what ran in the last minute and of what runs
    now, but for what finds room on processors that this process may not use.

    The mean of a minute alone would take a process that has just ended for one that goes on, a look alone would take a
    moment's work for more. Where the minute was quiet nobody looks.
    """
    minute, elsewhere = load_average(), max(0, (os.cpu_count() or 1) - processors())
    if minute is not None and minute <= LEAST + elsewhere:
        return max(0.0, minute - elsewhere)
    now = running_now()
    return max(0.0, min((one for one in (minute, now) if one is not None), default=0.0) - elsewhere)


def is_busy(taken: float, count: int) -> bool:
    """Whether other work is in the way of a process that computes on all of ``count`` processors.

    Args:
        taken: how many processors it takes (:func:`others`).
        count: how many there are (:func:`processors`).
    """
    return taken > max(LEAST, SHARE * count)


def settle(environment: MutableMapping[str, str] | None = None, taken: float | None = None) -> str | None:
    """Let OpenMP's threads wait asleep where the machine is busy, before torch is imported.

    Nothing is decided where the environment says anything of OpenMP, where torch is there already, and where there is
    but one processor.

    Args:
        environment: by default the process's own, which those that it starts inherit.
        taken: how many processors other work takes; by default it is looked at.

    Returns:
        What was decided, in a line; None where nothing was.
    """
    environment = os.environ if environment is None else environment
    count = processors()
    if "torch" in sys.modules or count < 2 or any(name.startswith(OF_THE_USER) for name in environment):
        return None
    taken = others() if taken is None else taken
    if not is_busy(taken, count):
        return None
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    return (
        f"other work takes {taken:.1f} of {count} processors: threads wait asleep for each other "
        "(OMP_WAIT_POLICY=PASSIVE; a variable OMP_... of yours decides)"
    )
