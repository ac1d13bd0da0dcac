"""Devices by name."""

from __future__ import annotations

import torch

from noisewright.outside.messages import short


def is_on_gpu(name: str | None) -> bool:
    """Whether a model is on a CUDA device by this name; None is the best there is."""
    return torch.cuda.is_available() if name is None else name.startswith("cuda")


def check_device(name: str | None) -> None:
    """Raise a ValueError for a device that is not here, or computes nothing; None is the best there is."""
    try:
        if torch.empty(0, device=name).device.type == "meta":
            raise NotImplementedError
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"expected a device that torch has here (cpu, cuda, mps, ...), got {short(name)}") from None
