"""Routes that do something: marks and choices, jobs, stopping; each is asked for with a JSON object by our own page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request as Asked
from starlette.routing import Route

from noisewright.continuing import check_nothing_missing, request_of, with_changes
from noisewright.outside.messages import short
from noisewright.outside.texts import clean
from noisewright.request import Request
from noisewright.run.particle import Candidate
from noisewright.run.reading import read_run
from noisewright.run.store import ask_to_stop
from noisewright.web.asked import check_bounds, check_budget, check_going_on, more_like, requested, with_more_steps
from noisewright.web.choices import mark, vote
from noisewright.web.live import Live
from noisewright.web.parts import Parts, id_of, text_of, with_body
from noisewright.web.places import NotThere, directory
from noisewright.web.queue import Busy
from noisewright.web.reading import choices_of

Body = dict[str, Any]


def routes(parts: Parts) -> list[Route]:
    """All of them."""
    every: dict[str, Callable[[Parts, Body], Any]] = {
        "/api/mark": _mark, "/api/vote": _vote, "/api/start": _start, "/api/forecast": _forecast,
        "/api/more": _more, "/api/like": _like, "/api/steps": _steps, "/api/score": _score, "/api/stop": _stop,
        "/api/cancel": _cancel,
    }  # fmt: skip
    return [Route(path, with_body(_bound(act, parts)), methods=["POST"]) for path, act in every.items()]


def _bound(act: Callable[[Parts, Body], Any], parts: Parts) -> Callable[[Asked, Body], Any]:
    return lambda http, body: act(parts, body)


def _live(parts: Parts, body: Body) -> Live:
    name = text_of(body, "run")
    return parts.lives.of(directory(parts.settings, name), name)


def _candidate(live: Live, key: str) -> Candidate:
    one = live.candidate(key)
    if one is None:
        raise NotThere(f"expected a candidate of the run, got {key}, which is none")
    return one


# Choosing


def _mark(parts: Parts, body: Body) -> Any:
    live = _live(parts, body)
    key, on = _candidate(live, id_of(body)).id, body.get("on")
    if not isinstance(on, bool):
        raise TypeError(f"expected on as true or false, got {short(on)}")
    mark(live.watch.root, key, text_of(body, "mark"), on)
    return choices_of(live)


def _vote(parts: Parts, body: Body) -> Any:
    live = _live(parts, body)
    one, other = (_candidate(live, id_of(body, name)).id for name in ("a", "b"))
    vote(live.watch.root, one, other, text_of(body, "choice"))
    return choices_of(live)


# Going on


def _start(parts: Parts, body: Body) -> Any:
    request = requested(body.get("fields"), parts.settings).located()
    what = request.prompt or f"class {request.class_label}"
    return _begin(parts, request, f"{request.search}: {what}")


def _begin(parts: Parts, request: Request, said: str) -> Any:
    name = parts.queue.new_run(str(request.prompt or request.class_label or request.model))
    try:
        return {"job": parts.queue.add("run", name, said, request=request.to_json())["id"], "run": name}
    except Exception:
        (parts.settings.runs / name).rmdir()
        raise


def _forecast(parts: Parts, body: Body) -> Any:
    request = requested(body.get("fields"), parts.settings).located()
    try:
        return {"busy": None, **parts.queue.forecast(request.to_json())}
    except Busy as error:
        return {"busy": str(error)}


def _before(parts: Parts, live: Live) -> Request:
    """What a run was asked for, where it may be asked for again here.

    Raises:
        ValueError: in one line, also where its directory names what only a person may.
    """
    root = live.watch.root
    request = _named(root, live.name, lambda: request_of(root, read_run(root)))
    _named(root, live.name, lambda: check_nothing_missing(root, request))
    _named(root, live.name, lambda: check_going_on(root, request, parts.settings))
    return request


def _named(root: Path, name: str, check: Callable[[], Any]) -> Any:
    """What a check gives; where it refuses, the run is named as the page does it."""
    try:
        return check()
    except ValueError as error:
        raise ValueError(clean(str(error).replace(str(root), name), 1000)) from None


def _more(parts: Parts, body: Body) -> Any:
    live = _live(parts, body)
    budget = check_budget(text_of(body, "budget"), parts.settings)
    root, before = live.watch.root, _before(parts, live)
    request = _named(root, live.name, lambda: with_changes(root, before, {"budget": budget}))
    said = f"more budget, {', '.join(budget)}: {live.head()['prompt'] or live.name}"
    return {"job": parts.queue.add("run", live.name, said, request=request.to_json())["id"], "run": live.name}


def _like(parts: Parts, body: Body) -> Any:
    live = _live(parts, body)
    one = _candidate(live, id_of(body))
    budget = check_budget(text_of(body, "budget"), parts.settings)
    request = more_like(_before(parts, live), one.particle, live.is_draft(one), ", ".join(budget))
    return _begin(parts, request, f"more like {_called(one)}: {live.head()['prompt'] or live.name}")


def _steps(parts: Parts, body: Body) -> Any:
    live, steps = _live(parts, body), body.get("steps")
    one = _candidate(live, id_of(body))
    if type(steps) is not int or steps < 1:
        raise ValueError(f"expected steps of at least 1, got {short(steps)}")
    request = with_more_steps(_before(parts, live), one.seed, steps)
    check_bounds(request, parts.settings)
    return _begin(parts, request, f"{_called(one)} with {steps} steps: {live.head()['prompt'] or live.name}")


def _called(one: Candidate) -> str:
    return one.id[:8] if one.seed is None else f"seed {one.seed}"


def _score(parts: Parts, body: Body) -> Any:
    live, name = _live(parts, body), text_of(body, "verifier")
    if name not in parts.settings.verifiers:
        listed = ", ".join(parts.settings.verifiers) or "none"
        raise ValueError(f"expected a verifier that this server was started with ({listed}), got {short(name)}")
    said = f"{name} over {live.name}"
    return {"job": parts.queue.add("score", live.name, said, verifier=name)["id"], "run": live.name}


def _stop(parts: Parts, body: Body) -> Any:
    live = _live(parts, body)
    _named(live.watch.root, live.name, lambda: ask_to_stop(live.watch.root))
    return {"run": live.name}


def _cancel(parts: Parts, body: Body) -> Any:
    parts.cancel(text_of(body, "job"))
    return {"jobs": parts.jobs()}
