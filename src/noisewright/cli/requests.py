"""What can be refused before anything heavy is imported."""

from __future__ import annotations

import math

from noisewright import registry

DTYPES = ("float32", "float16", "bfloat16")


def option_of(field: str) -> str:
    """``--steps`` for ``num_inference_steps``."""
    from noisewright.request import OPTIONS

    return "--" + OPTIONS.get(field, field).replace("_", "-")


def check_finite(**numbers: float | None) -> None:
    """Refuse infinities and NaN, naming the option.

    Raises:
        ValueError: in one line.
    """
    for name, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise ValueError(f"expected a finite {option_of(name)}, got {value}")


def check_device(device: str | None, dtype: str | None) -> None:
    """Refuse a device that is not here, and another dtype than models are loaded in.

    Raises:
        ValueError: in one line.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(registry.unknown("dtype", dtype, list(DTYPES)))
    if device is None:
        return
    from noisewright.samplers import device as devices

    devices.check_device(device)
