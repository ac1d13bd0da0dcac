"""From what was asked for to what will be done: a request checked, in parts, before anything is spent."""

from noisewright.planning.models import load, load_requested
from noisewright.planning.plans import DEFAULT_BUDGET, Plan, plan, plan_on, recordable
from noisewright.planning.precision import decided_dtype, settled

__all__ = [
    "DEFAULT_BUDGET", "Plan", "decided_dtype", "load", "load_requested", "plan", "plan_on", "recordable", "settled",
]  # fmt: skip
