"""Solvers by name."""

from __future__ import annotations

import inspect
from typing import Any

from noisewright.outside.messages import short
from noisewright.registry import plugins
from noisewright.registry.lookup import entry, load
from noisewright.verifiers.guarded import call, named, said


def make_solver(name: str | None, eta: float | None = None) -> Any:
    """A solver, or None for the pipeline's own.

    Raises:
        ValueError: on an unknown name, an eta for a solver that has none, or a plug-in's that is no solver.
    """
    if name is None or name == "pipeline":
        if eta:
            raise ValueError(f"eta = {eta} needs --solver ddim, got the pipeline's own")
        return None
    one = entry("solver", name)
    options: dict[str, Any] = dict(one.options)
    made = load(one)
    if eta is not None:
        if "eta" not in inspect.signature(made).parameters:
            solvers = (other for other in plugins.entries() if other.kind == "solver")
            able = [other.name for other in solvers if other.details.get("eta", "none") != "none"]
            raise ValueError(f"expected no eta for solver {name}, which has none (of {', '.join(able)}), got {eta:g}")
        options["eta"] = eta
    who = plugins.origin(one)
    if who is None:
        return made(**options)
    try:
        found = call(made, **options)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{who}: solver {name} raised {named(error)}: {said(error)}") from error
    return _checked(found, name, who)


def _checked(found: Any, name: str, who: str) -> Any:
    """What a plug-in's entry gave: a solver of the name that it is recorded by, or a replay would not find it."""
    from noisewright.diffusion.solvers import Solver, StagedSolver

    if not isinstance(found, (Solver, StagedSolver)):
        parts = "name, nfe_per_step, stochastic and step (or asked and stages)"
        raise ValueError(f"{who}: expected a solver with {parts} for {name}, got {type(found).__name__}")
    if found.name != name:
        raise ValueError(f"{who}: expected a solver that is called {name}, as its entry is, got {short(found.name)}")
    return found
