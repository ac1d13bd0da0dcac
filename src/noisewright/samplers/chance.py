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


def states(device: torch.device) -> dict[str, Any]:
    """The states of torch's generators (CPU, and the device's), numpy's and Python's."""
    found: dict[str, Any] = {"torch": torch.get_rng_state()}
    if device.type not in ("cpu", "meta"):
        module = torch.get_device_module(device)
        everywhere = hasattr(module, "get_rng_state_all")
        found[device.type] = module.get_rng_state_all() if everywhere else [module.get_rng_state()]
    # Only torch is imported for certain; the others are not loaded for this.
    if "numpy.random" in sys.modules:
        found["numpy"] = np.random.get_state(legacy=False)  # noqa: NPY002 - the one that others may draw from
    found["python"] = random.getstate()
    return found


def put_back(before: dict[str, Any]) -> None:
    """Set the generators to what :func:`states` gave."""
    for name, state in before.items():
        if name == "torch":
            torch.set_rng_state(state)
        elif name == "numpy":
            np.random.set_state(state)  # noqa: NPY002
        elif name == "python":
            random.setstate(state)
        else:
            module = torch.get_device_module(name)
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
            np.random.random()  # noqa: NPY002
        else:
            torch.rand(1, device="cpu" if name == "torch" else name)


def unaided(
    work: Callable[[], Output], device: torch.device, who: str, proven: bool, say: Callable[[str], None]
) -> Output:
    """Do ``work``, whose outcome must not depend on the process's own generators; they are as before afterwards.

    Where they were drawn from, the work is done again from another state of theirs: an equal outcome proves that what
    was drawn did not matter. In a program of several threads it may have been another thread that drew, so that there
    nothing is put back.

    Args:
        work: gives a tensor, or a tensor and more; it can be done twice.
        device: where it works.
        who: what is named.
        proven: whether such work was proved already not to depend on what it draws.
        say: is told once it is proved.

    Raises:
        UnsupportedPipeline: where the outcome differs.
    """
    alone = threading.active_count() == 1
    before = states(device)
    try:
        found = work()
        drawn = moved(before, states(device))
        if proven or not drawn:
            return found
        stir(drawn)
        again = work()
    finally:
        if alone:
            put_back(before)
    if not _equal(found, again):
        raise UnsupportedPipeline(
            f"{who} draws from the random generator of {' and '.join(drawn)} that the whole process shares, so no seed "
            "names its images: expected randomness from the generator that it is given"
        )
    say(f"{who} draws random numbers that no seed names; they do not matter for its images" if alone else "")
    return found


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and bool(torch.equal(a, b))
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(_equal(*pair) for pair in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return True
