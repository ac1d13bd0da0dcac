"""The process's own random number generators, which a call of a pipeline must leave as they were.

What is drawn from them no seed names, and a batch shares it: an image that depends on them cannot be made again.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

from noisewright.errors import UnsupportedPipeline

Output = TypeVar("Output")

ACCELERATORS = ("cuda", "xpu", "mps")


def states() -> dict[str, Any]:
    """The states of torch's generators (the CPU's, and those of accelerators in use), numpy's and Python's."""
    found: dict[str, Any] = {"torch": torch.get_rng_state()}
    for name in ACCELERATORS:
        module = getattr(torch, name, None)
        if module is not None and getattr(module, "is_initialized", module.is_available)():
            everywhere = hasattr(module, "get_rng_state_all")
            found[name] = module.get_rng_state_all() if everywhere else [module.get_rng_state()]
    found["numpy"] = np.random.get_state(legacy=False)
    found["python"] = random.getstate()
    return found


def put_back(before: dict[str, Any]) -> None:
    """Set the generators to what :func:`states` gave."""
    for name, state in before.items():
        if name == "torch":
            torch.set_rng_state(state)
        elif name == "numpy":
            np.random.set_state(state)
        elif name == "python":
            random.setstate(state)
        else:
            module = getattr(torch, name)
            if hasattr(module, "set_rng_state_all"):
                module.set_rng_state_all(state)
            else:
                module.set_rng_state(state[0])


def moved(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Whose generators were drawn from between two :func:`states`."""
    return [name for name in now if name in before and not _same(before[name], now[name])]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(*pair) for pair in zip(a, b, strict=True))
    return bool(a == b)


def stir(names: list[str]) -> None:
    """Move the named generators on, so that whoever draws from them draws something else."""
    for name in names:
        if name == "python":
            random.random()
        elif name == "numpy":
            np.random.random()
        else:
            torch.rand(1, device="cpu" if name == "torch" else name)


def unaided(
    work: Callable[[], Output], who: str, known: dict[str, bool], verb: str,
    say: Callable[[str], None],
) -> Output:  # fmt: skip
    """Do ``work``, whose outcome must not depend on the process's own generators; they are as before afterwards.

    Where they were drawn from, the work is done again from another state of theirs: an equal outcome proves that what
    was drawn did not matter. If nothing is drawn this time, or other threads are busy, another thread may have drawn
    what it needs, and nothing is put back.

    Args:
        work: gives a tensor, or a tensor and more; it can be done twice.
        who: what is named.
        known: by verb, whether it draws, for those that were proved not to need it; added to.
        verb: what ``work`` does.
        say: takes a warning.

    Raises:
        UnsupportedPipeline: where the outcome differs.
    """
    alone, before = others_wait(), states()
    ours = known.get(verb, True)
    try:
        found = work()
        drawn = moved(before, states())
        if not drawn or verb in known:
            return found
        stir(drawn)
        between = states()
        again = work()
        ours = bool(moved(between, states()))
    finally:
        if alone and ours and others_wait():
            put_back(before)
    if not _equal(found, again):
        raise UnsupportedPipeline(
            f"{who} draws from the random generator of {' and '.join(drawn)} that the whole process shares, so no seed "
            "names its images: expected randomness from the generator that it is given"
        )
    known[verb] = ours
    if ours:
        say(f"{who} draws random numbers that no seed names; they do not matter for its images")
    return found


WAITING = ("threading", "queue", "selectors", "socket", "concurrent.futures.thread", "tqdm._monitor")
"""Modules in which a thread that has nothing to do stands."""


def others_wait() -> bool:
    """Whether no other thread of this process is at work, as far as their stacks tell."""
    if threading.active_count() == 1:
        return True
    own = threading.get_ident()
    tops = [frame for thread, frame in sys._current_frames().items() if thread != own]
    return all(frame.f_globals.get("__name__") in WAITING for frame in tops)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and bool(torch.equal(a, b))
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(_equal(*pair) for pair in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return True
