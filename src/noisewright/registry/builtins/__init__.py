"""What comes with noisewright, as entries of the registry, a kind a file; plug-ins add theirs in the same form."""

from __future__ import annotations

from noisewright.registry.builtins.executors import EXECUTORS
from noisewright.registry.builtins.models import MODELS
from noisewright.registry.builtins.samplers import SAMPLERS
from noisewright.registry.builtins.schedules import SCHEDULES
from noisewright.registry.builtins.searches import SEARCHES
from noisewright.registry.builtins.solvers import SOLVERS
from noisewright.registry.builtins.verifiers import VERIFIERS
from noisewright.registry.kinds import BEGINS_ANEW, FULL_STEPS, GRADIENT, PREVIEWS, STEP_NOISE, Entry

__all__ = ["BEGINS_ANEW", "ENTRIES", "FULL_STEPS", "GRADIENT", "PREVIEWS", "STEP_NOISE", "Entry"]

ENTRIES = [*SEARCHES, *VERIFIERS, *MODELS, *SOLVERS, *SCHEDULES, *SAMPLERS, *EXECUTORS]
