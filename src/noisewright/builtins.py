"""Where plug-ins found :class:`Entry` before it moved to :mod:`noisewright.registry.builtins`; this name stays."""

from noisewright.registry.builtins import (
    BEGINS_ANEW,
    ENTRIES,
    FULL_STEPS,
    GRADIENT,
    PREVIEWS,
    STEP_NOISE,
    Entry,
)

__all__ = ["BEGINS_ANEW", "ENTRIES", "FULL_STEPS", "GRADIENT", "PREVIEWS", "STEP_NOISE", "Entry"]
