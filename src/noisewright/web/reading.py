"""Routes that only look: the list, a run, its pictures, its tree, what a candidate is made of."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from noisewright.continuing import request_of
from noisewright.evaluate.words import lineage_text
from noisewright.outside.texts import clean
from noisewright.plain import plain_of
from noisewright.run.directory import PREVIEWS
from noisewright.run.reading import read_run
from noisewright.web.choices import agreements, human_scores, next_pair, read_choices, read_opinions
from noisewright.web.form import fields_of, form
from noisewright.web.lineage import tree
from noisewright.web.live import Cursor, Live
from noisewright.web.parts import Parts, in_thread, json_response
from noisewright.web.pictures import check_side, file_in, original, shown, tag_of
from noisewright.web.places import FIGURES, NotThere, check_id, directory
from noisewright.web.typed import command_of

MOST_SKIPPED = 200
"""Pairs that a person did not want to choose between, and that come last."""

POOL = 12
"""Candidates that pairs are made of, besides those that are pinned or starred."""

MP4 = b"ftyp"
"""What stands at the fifth byte of such a file."""

ALONE = "sandbox; default-src 'none'"
"""The policy of what a stranger may have written."""

ASKED_ANEW = {"Cache-Control": "private, no-cache"}
"""Of pictures: a run of another prompt in the same directory has other ones of the same names."""


def routes(parts: Parts) -> list[Route]:
    """All of them."""
    every = {
        "/api/runs": _runs, "/api/run": _run, "/api/candidate": _candidate, "/api/lineage": _lineage,
        "/api/choices": _choices, "/api/pair": _pair, "/api/form": _form, "/api/jobs": _jobs, "/api/asked": _asked,
        "/picture": _picture, "/film": _film, "/download": _download, "/figure": _figure,
    }  # fmt: skip
    return [Route(path, in_thread(_bound(answer, parts))) for path, answer in every.items()]


def _bound(answer: Any, parts: Parts) -> Any:
    return lambda request: answer(parts, request)


def _runs(parts: Parts, request: Request) -> Response:
    version, found = parts.listing.all()
    waiting = [one for one in parts.jobs() if one["state"] in ("waiting", "running")]
    tag = f'"{version}-{zlib.crc32(json.dumps(waiting).encode()):08x}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304)
    return json_response({"runs": found, "jobs": waiting}, headers={"ETag": tag, "Cache-Control": "no-cache"})


def _jobs(parts: Parts, request: Request) -> Any:
    return {"jobs": parts.jobs()}


def _form(parts: Parts, request: Request) -> Any:
    return form(parts.settings)


def _run(parts: Parts, request: Request) -> Any:
    name = request.query_params.get("run")
    try:
        live = parts.live(request)
    except NotThere:
        if any(one["run"] == name for one in parts.jobs()):
            return {"head": None}  # it has not begun, or never did: the queue says which
        raise
    if request.query_params.get("head") == "1":
        return {"head": live.head()}
    found, _ = live.since(Cursor())
    return found


def _asked(parts: Parts, request: Request) -> Any:
    """What a run was asked for: ``fields`` of the form, and the options of what the form cannot say (``left_out``)."""
    _, place = parts.place(request)
    fields, left_out = fields_of(request_of(place, read_run(place)), parts.settings)
    return {"fields": fields, "left_out": left_out}


def _lineage(parts: Parts, request: Request) -> Any:
    return tree(parts.live(request))


# A candidate


def _candidate(parts: Parts, request: Request) -> Any:
    """How a candidate was made, and how it is made again."""
    live, key = parts.live(request), check_id(request.query_params.get("id", ""))
    one = live.candidate(key)
    if one is None:
        raise NotThere(f"expected a candidate of the run, got {key}, which is none")
    place = live.watch.root
    try:
        with live.lock:
            code, why_not = plain_of(live.watch, key)
    except (ValueError, TypeError, LookupError) as error:
        code, why_not = None, clean(str(error).replace(str(place), live.name))
    try:
        command = command_of(request_of(place, read_run(place)))
    except (ValueError, TypeError, LookupError):
        command = None
    lineage = one.particle.lineage()
    film = file_or_none(live, one.file.removesuffix(".png") + ".mp4")
    return {
        "id": key, "seed": one.seed, "steps": one.particle.steps, "how": _how(lineage), "verbs": len(lineage),
        "diffusers": code, "no_diffusers": why_not, "command": command,
        "replay": f"noisewright replay {live.name}:{key}", "alone": one.particle.origin.index == 0,
        "film": film is not None, "pixels": one.pixels,
    }  # fmt: skip


def file_or_none(live: Live, name: str) -> Any:
    try:
        return file_in(live.watch.root, name)
    except NotThere:
        return None


def _how(lineage: list[dict[str, Any]], most: int = 24) -> str:
    """How it was made in words; of a long way its end."""
    text = lineage_text(lineage[-most:])
    return text if len(lineage) <= most else f"{len(lineage) - most} verbs, then {text}"


def _picture(parts: Parts, request: Request) -> Response:
    _, place = parts.place(request)
    key = check_id(request.query_params.get("id", ""))
    side = check_side(request.query_params.get("side", "0"))
    file = f"{PREVIEWS}/{key}.jpg" if request.query_params.get("preview") == "1" else f"images/{key}.png"
    return _shown(parts, request, file_in(place, file), side)


def _shown(parts: Parts, request: Request, held: Path, side: int) -> Response:
    headers = {**ASKED_ANEW, "ETag": tag_of(held, side)}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    data, media = shown(parts.settings.cache, held, side)
    return Response(data, media_type=media, headers=headers)


def _download(parts: Parts, request: Request) -> Response:
    """The file as it is, with what it says of itself: saved, and never shown."""
    _, place = parts.place(request)
    key = check_id(request.query_params.get("id", ""))
    film = request.query_params.get("film") == "1"
    held = file_in(place, f"images/{key}.{'mp4' if film else 'png'}")
    data = held.read_bytes() if film else original(held)
    headers = {"Content-Disposition": f'attachment; filename="{key}.{"mp4" if film else "png"}"',
               "Content-Security-Policy": ALONE}  # fmt: skip
    return Response(data, media_type="video/mp4" if film else "image/png", headers=headers)


def _film(parts: Parts, request: Request) -> Response:
    """A video to be played, a part at a time as browsers ask for it; what does not begin as one is not sent."""
    _, place = parts.place(request)
    held = file_in(place, f"images/{check_id(request.query_params.get('id', ''))}.mp4")
    with held.open("rb") as file:
        if file.read(12)[4:8] != MP4:
            raise ValueError(f"expected a video, got {held.name}, which is none")
    headers = {**ASKED_ANEW, "Content-Security-Policy": ALONE}
    return FileResponse(held, media_type="video/mp4", headers=headers)


def _figure(parts: Parts, request: Request) -> Response:
    """A picture that a run's or benchmark's end drew."""
    kind = "benchmark" if request.query_params.get("kind") == "benchmark" else "run"
    place = directory(parts.settings, request.query_params.get("run", ""), kind)
    file = request.query_params.get("file", "")
    if file not in FIGURES:
        raise NotThere(f"expected one of {', '.join(FIGURES)}, got another")
    return _shown(parts, request, file_in(place, file), check_side(request.query_params.get("side", "0")))


# Choices


def columns_of(live: Live) -> dict[str, dict[str, float]]:
    """The scores of a run's candidates by name: of verifiers, judges, and whom it was shown to later."""
    found: dict[str, dict[str, float]] = {}
    for one in live.pool():
        for name, value in one.scores.items():
            if math.isfinite(value):
                found.setdefault(name, {})[one.id] = value
    with live.lock:
        judged = {key: dict(names) for key, names in live.watch.ledger.judged.items()}
    for key, names in judged.items():
        for name, value in names.items():
            if math.isfinite(value):
                found.setdefault(name, {})[key] = value
    for name, scores in read_opinions(live.watch.root).items():
        found.setdefault(name, {}).update(scores)
    return found


def choices_of(live: Live) -> dict[str, Any]:
    """What a person said of a run, and what follows from it, JSON-ready."""
    place = live.watch.root
    said = read_choices(place)
    opinions = read_opinions(place)
    people = {one.item: [one.value, one.low, one.high, one.choices] for one in human_scores(said.votes)}
    return {
        "marks": said.marks, "votes": len(said.votes), "human": people, "damaged": said.damaged,
        "agreement": agreements(said.votes, columns_of(live)) if said.votes else [], "opinions": opinions,
    }  # fmt: skip


def _choices(parts: Parts, request: Request) -> Any:
    return choices_of(parts.live(request))


def _pair(parts: Parts, request: Request) -> Any:
    """Two candidates to be compared without their scores."""
    live = parts.live(request)
    said = read_choices(live.watch.root)
    rejected = {key for key, names in said.marks.items() if "reject" in names}
    chosen = [key for key, names in said.marks.items() if key not in rejected and live.candidate(key) is not None]
    with live.lock:
        pool = [one for one in live.alike() if one.id not in rejected
                and live.watch.ledger.images[one.id].broken is None]  # fmt: skip
        best = live.ranking.top(pool, POOL)
        base = live.baseline()
    keys = list(dict.fromkeys([*chosen, *(one.id for one in best), *([base] if base else [])]))[: 4 * POOL]
    skipped = [one.split(",") for one in request.query_params.getlist("skip")[:MOST_SKIPPED]]
    pair = next_pair([key for key in keys if key not in rejected], said.votes, len(said.votes), skipped)
    return {"pair": pair, "votes": len(said.votes)}
