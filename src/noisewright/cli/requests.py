"""What can be refused before anything heavy is imported."""

from __future__ import annotations

import math

from noisewright import registry

DTYPES = ("float32", "float16", "bfloat16")
AUTO = "auto"
"""A dtype that is left open, where a model is loaded to be searched or checked."""


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


def check_device(device: str | None, dtype: str | None, *more: str) -> None:
    """Refuse a device that is not here, and another dtype than models are loaded in, or one of ``more`` names.

    Raises:
        ValueError: in one line.
    """
    if dtype is not None and dtype not in (*DTYPES, *more):
        raise ValueError(registry.unknown("dtype", dtype, [*DTYPES, *more]))
    if device is None:
        return
    from noisewright.samplers import device as devices

    devices.check_device(device)
