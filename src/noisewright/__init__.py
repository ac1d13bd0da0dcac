"""noisewright: better images from pretrained diffusion and flow models, by searching for better noise.

import noisewright as nw
result = nw.search(pipe, "two red circles", verifier="clip", budget="64 images")
result.best.image
"""

from typing import TYPE_CHECKING, Any

from noisewright.texts import guard_log

__version__ = "0.1.0"
__all__ = ["Result", "__version__", "load", "search", "with_timeout"]

if TYPE_CHECKING:
    from noisewright.api import Result, load, search
    from noisewright.verifiers.timeout import with_timeout

guard_log()


def __getattr__(name: str) -> Any:
    # torch and diffusers take seconds to import; --help and --version must not wait for them.
    if name in ("search", "load", "Result"):
        import noisewright.api

        return getattr(noisewright.api, name)
    if name == "with_timeout":
        from noisewright.verifiers.timeout import with_timeout

        return with_timeout
    raise AttributeError(f"module 'noisewright' has no attribute {name!r}")
