"""What records say of a sampler: model, prompt, settings, and how its steps are taken."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.schedules import Rule, rule_of
from noisewright.diffusion.solvers import eta_of
from noisewright.samplers.calling import Caller
from noisewright.samplers.identity import copied
from noisewright.samplers.levels import step_arguments
from noisewright.samplers.prepared import Prepared
from noisewright.samplers.settings import Description, older_settings

AFTER_SETTINGS = ("eta",)
"""Arguments of the pipeline's call whose place in a description another value takes."""


def described(
    about: Mapping[str, Any], recorded: Mapping[str, Any], caller: Caller, prepared: Prepared,
    given: Schedule | Rule | str | None, source: dict[str, Any],
) -> Description:  # fmt: skip
    """A sampler's description, JSON-ready.

    Args:
        about: which model and pipeline it is.
        recorded: the arguments of the pipeline's call.
        caller: of the pipeline.
        prepared: what it does.
        given: levels that were asked for, or a rule that makes them; None for the pipeline's own.
        source: where the pipeline was loaded from.
    """
    label = {} if caller.class_label is None else {"class_label": caller.class_label}
    steps = _steps_described(caller, prepared, given, source)
    found = Description({**about, "prompt": caller.prompt, **label, **copied(recorded), **steps})
    own = {key: value for key, value in caller.settings.items() if key not in AFTER_SETTINGS}
    found.older = partial(older_settings, own)
    return found


def _steps_described(
    caller: Caller, prepared: Prepared, given: Schedule | Rule | str | None, source: dict[str, Any]
) -> dict[str, Any]:
    """The part of it behind model, prompt and settings."""
    levels = given.to_json() if isinstance(given, Schedule) else None if given is None else rule_of(given).name
    solver, pipe = prepared.solver, caller.pipe
    return {
        "num_inference_steps": prepared.steps,
        "solver": solver.name if solver is not None else type(pipe.scheduler).__name__,
        "eta": _eta(prepared),
        "schedule": prepared.schedule.digest,
        **({} if levels is None else {"levels": levels}),
        **_unlike_before(caller, prepared),
        **source,
        "dtype": str(pipe.dtype).removeprefix("torch."),
        **_rounding(caller, prepared),
        "device": str(caller.device),
    }


def placed(pipe: Any) -> tuple[Any, ...]:
    """What changes when a pipeline is moved, cast, offloaded or given other networks, without a look at all of them."""
    networks = [one for one in getattr(pipe, "components", {}).values() if isinstance(one, nn.Module)]
    found: list[Any] = []
    for one in networks:
        first = next(one.parameters(), None)
        hooks = [name for name in ("_hf_hook", "_diffusers_hook") if name in vars(one)]
        found.append((id(one), None if first is None else (first.device, first.dtype), hooks))
    return tuple(found)


def _eta(prepared: Prepared) -> float | None:
    """The solver's, or what the pipeline passes to a scheduler whose own default is another."""
    if prepared.solver is not None:
        return eta_of(prepared.solver)
    return step_arguments(prepared.scheduler, prepared.passed).get("eta")


def _rounding(caller: Caller, prepared: Prepared) -> dict[str, Any]:
    """What is said of the precision of states; nothing where it makes no difference, or is as it always was."""
    rounds = prepared.entry.rounds(caller.pipe.dtype) and prepared.solver is not None
    return {"states": "model"} if rounds and prepared.states == "model" else {}


def _unlike_before(caller: Caller, prepared: Prepared) -> dict[str, Any]:
    """What tells a run from one of version 0.1 that was recorded with the same words and did something else."""
    accepted, settings = inspect.signature(type(caller.pipe).__call__).parameters, caller.settings
    none = [name for name in caller.explicit if settings[name] is None and accepted[name].default is not None]
    late = prepared.solver is None and prepared.chance.matters and not prepared.chance.from_start
    config = getattr(prepared.scheduler, "config", {})
    # A setting that DPM-Solver's single-step form rewrites itself, so that no fingerprint has it.
    own = prepared.solver is None and type(prepared.scheduler).__name__ == "DPMSolverSinglestepScheduler"
    orders = own and not config.get("lower_order_final", True)
    return {
        **({"none": none} if none else {}),
        **({"step_noise": "seeded"} if late else {}),
        **({"lower_order_final": False} if orders else {}),
    }
