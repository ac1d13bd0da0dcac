"""States from one place to another: to where the model computes at the beginning of a micro-batch, back at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CPU = torch.device("cpu")


def there(value: Any, place: torch.device) -> Any:
    """A value with the states in it on ``place``; to a CUDA device without waiting for the copies.

    States are tensors (batch, ...) of floating-point numbers. What else a scheduler remembers stays where it is: it
    keeps its levels on the CPU, and torch takes the state of a generator from there alone.

    Args:
        value: a tensor, or containers of tensors and others.
        place: a device.
    """

    def sent(one: Tensor) -> Tensor:
        if one.ndim < 2 or not one.is_floating_point():
            return one
        if one.device.type == "cpu" and place.type == "cuda" and not one.requires_grad:  # no gradient goes through pins
            return one.pin_memory().to(place, non_blocking=True)  # torch keeps pinned memory until the copy is done
        return one.to(place)

    return _mapped(value, sent)


def home(value: Any) -> Any:
    """A value with the tensors in it on the CPU, in ordinary memory.

    From CUDA all copies are asked for at once, into pinned memory, and waited for once; those that a gradient goes
    through one by one.
    """
    devices: set[torch.device] = set()

    def begun(one: Tensor) -> Tensor:
        if one.device.type != "cuda" or one.requires_grad:
            return one.to(CPU)
        devices.add(one.device)
        waiting = torch.empty(one.shape, dtype=one.dtype, pin_memory=True)
        return waiting.copy_(one, non_blocking=True)

    found = _mapped(value, begun)
    for device in devices:
        torch.cuda.current_stream(device).synchronize()
    # Pinned memory is scarce, and states are kept as long as their particles.
    return _mapped(found, lambda one: one.clone() if one.is_pinned() else one) if devices else found


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A value with ``change`` made to each tensor in it; dictionaries, lists and tuples are made anew."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(one, change) for key, one in value.items()}
    return type(value)(_mapped(one, change) for one in value) if type(value) in (list, tuple) else value
