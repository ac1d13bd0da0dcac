"""noisewright: better images from pretrained diffusion and flow models, by searching for better noise.

import noisewright as nw
result = nw.search(pipe, "two red circles", verifier="clip", budget="64 images")
result.best.image
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from noisewright.outside.texts import guard_log

__version__ = "0.1.0"
__all__ = ["Request", "Result", "__version__", "load", "plan", "search", "with_timeout"]

if TYPE_CHECKING:
    from noisewright.api import search
    from noisewright.planning import load, plan
    from noisewright.request import Request
    from noisewright.result import Result
    from noisewright.verifiers.timeout import with_timeout

guard_log()


def __getattr__(name: str) -> Any:
    # torch and diffusers take seconds to import; --help and --version must not wait for them.
    where = {"search": "api", "load": "planning", "Request": "request", "Result": "result", "plan": "planning",
             "with_timeout": "verifiers.timeout"}  # fmt: skip
    if name in where:
        return getattr(import_module(f"noisewright.{where[name]}"), name)
    raise AttributeError(f"module 'noisewright' has no attribute {name!r}")
