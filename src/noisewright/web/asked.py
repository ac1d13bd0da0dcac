"""What a page asks for, held to what the server's start allows: a request, its cost bounded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.outside.messages import short, unknown
from noisewright.registry import trust
from noisewright.registry.located import located_model, located_verifiers
from noisewright.request import NONE, Request, check_names
from noisewright.run.budget import parse_budget
from noisewright.run.particle import Particle
from noisewright.web.form import FIELDS, NOT_TYPED
from noisewright.web.settings import Settings


def requested(given: Any, settings: Settings) -> Request:
    """The request of a form.

    Args:
        given: fields by name; those that are empty are not asked for.
        settings: of the server.

    Raises:
        ValueError, TypeError: in one line, on what is wrong or not allowed.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"expected the fields of a run, got {short(given)}")
    found = {}
    for name, value in given.items():
        if name not in FIELDS:
            raise ValueError(unknown("field", str(name), list(FIELDS)))
        if value not in (None, "", [], {}):
            found[name] = value
    args = found.get("search_args", {})
    if not isinstance(args, Mapping) or any(name in NOT_TYPED for name in args):
        raise ValueError(f"expected arguments of the search as names and plain values, got {short(args)}")
    found.setdefault("model", settings.models[0] if settings.models else None)
    request = Request(**found)
    check_allowed(request, settings)
    check_names(request)
    registry.check_arguments(request.search, request.search_args)
    return request


def check_allowed(request: Request, settings: Settings) -> None:
    """Refuse names that the server's start does not allow, and what is beyond its limits.

    Raises:
        ValueError: in one line.
    """
    if request.model not in settings.models:
        raise ValueError(_not_allowed("model", request.model, settings.models))
    judges = () if request.judge == NONE else request.judge or ()
    for name in (*(request.verifier or ()), *judges):
        if name not in settings.verifiers:
            raise ValueError(_not_allowed("verifier", name, settings.verifiers))
    if request.schedule is not None and request.schedule not in registry.names("schedule"):
        raise ValueError(unknown("schedule", request.schedule, registry.names("schedule")))
    check_bounds(request, settings)


def check_going_on(root: Path, request: Request, settings: Settings) -> None:
    """Refuse to work on a run that names what neither the server's start nor a run's directory may, or costs too much.

    Args:
        root: the run's directory.
        request: what it asks for: as it recorded it, or as a file of jobs says.
        settings: of the server.

    Raises:
        ValueError: in one line.
    """
    named = request.to_json()
    offered = located_verifiers(settings.verifiers) or []
    for key in ("verifier", "judge"):
        named[key] = [one for one in named[key] or [] if one not in offered]
    if request.model in [located_model(one) for one in settings.models]:
        named["model"] = None
    trust.check_run(root, named)
    check_bounds(request, settings)


def _not_allowed(kind: str, name: Any, allowed: tuple[str, ...]) -> str:
    listed = ", ".join(allowed) or "none"
    return f"expected a {kind} that this server was started with ({listed}), got {short(name)}"


def check_bounds(request: Request, settings: Settings) -> None:
    """Refuse what costs more than the server's limits.

    Raises:
        ValueError: in one line.
    """
    limits = settings.limits
    if request.budget is not None:
        check_budget(request.budget, settings)
    for name, most in (("num_inference_steps", limits.steps), ("search_steps", limits.steps), ("height", limits.side),
                       ("width", limits.side), ("batch_size", limits.batch), ("keep", limits.images)):  # fmt: skip
        value = getattr(request, name)
        if value is not None and value > most:
            raise ValueError(f"expected {name} of at most {most}, got {value}")
    if (request.height or 1) * (request.width or 1) > limits.pixels:
        raise ValueError(f"expected at most {limits.pixels} pixels, got {request.height} x {request.width}")
    for name, value in request.search_args.items():
        if isinstance(value, (int, float)) and abs(value) > limits.images:
            raise ValueError(f"expected {name} of at most {limits.images}, got {short(value)}")


def check_budget(given: Any, settings: Settings) -> list[str]:
    """A budget within the server's limits, as texts.

    Raises:
        ValueError, TypeError: in one line.
    """
    budget = parse_budget(given)
    for unit in ("images", "nfe", "seconds"):
        value, most = getattr(budget, unit), getattr(settings.limits, unit)
        if value is not None and value > most:
            raise ValueError(f"expected a budget of at most {most:g} {unit}, got {value:g}")
    return [given] if isinstance(given, str) else list(given)


def more_like(request: Request, particle: Particle, draft: bool, budget: str) -> Request:
    """The refinement of a candidate's starting noise.

    Args:
        request: of its run.
        particle: the candidate's.
        draft: whether it is one of the run's drafts, and not a full image.
        budget: of the refinement.

    Raises:
        ValueError: in one line, where it is not made from its starting noise alone.
    """
    if particle.origin.index != 0:
        raise ValueError("expected a candidate that its starting noise alone makes, got one that was drawn on the way")
    args = {"start": particle.full.lineage()}  # of which a run with drafts makes drafts again
    changes: dict[str, Any] = {"keep": None, "search_steps": None}
    if draft and request.search_steps is not None:
        changes["num_inference_steps"] = request.search_steps
    return request.changed(search="refine", search_args=args, budget=[budget], target=None, **changes)


def with_more_steps(request: Request, seed: int | None, steps: int) -> Request:
    """The image of a candidate's seed with another number of steps.

    Raises:
        ValueError: in one line, where no seed makes it.
    """
    if seed is None:
        raise ValueError("expected a candidate that a seed makes, got one that no seed alone does")
    return request.changed(
        search="random", search_args={}, seed=seed, num_inference_steps=steps, search_steps=None, draft=None,
        budget=["1 image"], target=None, keep=None,
    )  # fmt: skip
