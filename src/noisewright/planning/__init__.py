"""From what was asked for to what will be done: a request checked, in parts, before anything is spent."""

from noisewright.planning.models import check_device, load
from noisewright.planning.plans import DEFAULT_BUDGET, Plan, plan

__all__ = ["DEFAULT_BUDGET", "Plan", "check_device", "load", "plan"]
