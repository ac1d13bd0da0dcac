"""noisewright: better images from pretrained diffusion and flow models, by searching for better noise.

import noisewright as nw
result = nw.search(pipe, "two red circles", verifier="clip", budget="64 images")
result.best.image
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from noisewright.outside.texts import guard_log

__version__ = "0.1.0"
__all__ = [
    "Result", "__version__", "compare_schedules", "fit_schedule", "load", "measure_schedule_errors", "search",
    "with_timeout",
]  # fmt: skip

if TYPE_CHECKING:
    from noisewright.api import search
    from noisewright.plan import load
    from noisewright.result import Result
    from noisewright.trajectory.compare import compare_schedules
    from noisewright.trajectory.fit import fit_schedule
    from noisewright.trajectory.measure_model import measure_schedule_errors
    from noisewright.verifiers.timeout import with_timeout

guard_log()


def __getattr__(name: str) -> Any:
    # torch and diffusers take seconds to import; --help and --version must not wait for them.
    where = {
        "search": "api", "load": "plan", "Result": "result", "with_timeout": "verifiers.timeout",
        "fit_schedule": "trajectory.fit", "compare_schedules": "trajectory.compare",
        "measure_schedule_errors": "trajectory.measure_model",
    }  # fmt: skip
    if name in where:
        return getattr(import_module(f"noisewright.{where[name]}"), name)
    raise AttributeError(f"module 'noisewright' has no attribute {name!r}")
