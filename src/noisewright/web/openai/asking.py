"""From a request's fields to a :class:`~noisewright.request.Request`: names from lists, numbers within bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.outside.bounds import at_most
from noisewright.outside.bundled import bundled
from noisewright.outside.messages import short, unknown
from noisewright.registry.trust import of_card
from noisewright.request import NONE, Request, recorded
from noisewright.run.budget import parse_budget
from noisewright.samplers.pictures import names_file
from noisewright.schemas.drafts import NO_DRAFT, draft_of, read_draft
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.fields import MOST_AT_ONCE, EditFields, GenerationFields, SearchFields
from noisewright.web.openai.public import by_public_name, public_verifier, without_paths
from noisewright.web.openai.settings import ImagesSettings

PARAMS = {
    "height": "size", "width": "size", "num_inference_steps": "num_inference_steps", "steps": "num_inference_steps",
    "search_steps": "search.draft", "draft": "search.draft", "best": "search.draft",
    "guidance_scale": "guidance_scale", "negative_prompt": "negative_prompt",
    "true_cfg_scale": "true_cfg_scale", "strength": "strength", "mask_image": "mask", "mask": "mask", "image": "image",
    "verifier": "search.verifiers", "judge": "search.judges", "target": "search.target", "budget": "search.budget",
    "prompt": "prompt", "seed": "seed", "search": "search.method",
}  # fmt: skip
"""Words of our own messages, and the field of a request that they are about."""


def offered_verifiers(settings: ImagesSettings) -> dict[str, str]:
    """What requests may name: what the server's start allows, and what the cards of its models do.

    A request names a verifier as people know it: of a file its last part, never this machine's paths.

    Returns:
        What was typed, by what a request calls it.
    """
    found = list(settings.verifiers)
    for name in settings.models.values():
        info = registry.card(bundled(name) or name)
        for key in ("verifier", "judge"):
            found += of_card(info, key, name)
    return by_public_name(found, public_verifier)


def default_verifiers(model: str, settings: ImagesSettings) -> list[str]:
    """What is searched for where a request does not say it: what the model's card names, or the first that is offered.

    Raises:
        ApiError: 400, where there is none.
    """
    name = settings.models[model]
    found = of_card(registry.card(bundled(name) or name), "verifier", name) or list(settings.verifiers[:1])
    if not found:
        raise ApiError(400, f"expected search.verifiers for {model}, which has none of its own", "search.verifiers",
                       "missing_required_parameter")  # fmt: skip
    return found


def offered_searches(settings: ImagesSettings) -> list[str]:
    """The searches that requests may name."""
    return list(settings.searches or registry.names("search"))


def check_model(name: str | None, settings: ImagesSettings) -> str:
    """The model of a request, by its name in ``GET /v1/models``.

    Raises:
        ApiError: 404.
    """
    if name is None:
        return next(iter(settings.models))
    if name not in settings.models:
        raise ApiError(404, unknown("model", name, list(settings.models)), "model", "model_not_found")
    return name


def request_of(
    fields: GenerationFields, settings: ImagesSettings, seed: int, pictures: Mapping[str, Path] | None = None
) -> Request:
    """What is to be done.

    Args:
        fields: as they came.
        settings: what is offered.
        seed: where the request says none.
        pictures: files of images by the name of the pipeline's argument.

    Raises:
        ApiError: 400 or 404, with the field that is wrong.
    """
    search = fields.search or SearchFields.model_validate({})
    _check_words(fields)
    model, size = check_model(fields.model, settings), _size(fields.size, settings)
    for name, value in (("num_inference_steps", fields.num_inference_steps), ("search.draft", search.draft)):
        if isinstance(value, int) and value > settings.most_steps:
            raise ApiError(400, f"expected {name} of at most {settings.most_steps}, got {value}", name, "invalid_value")
    if (fields.n or 1) > settings.most_n:
        raise ApiError(400, f"expected n of at most {settings.most_n}, got {fields.n}", "n", "invalid_value")
    method = search.method or "random"
    if method not in offered_searches(settings):
        raise ApiError(400, unknown("search", method, offered_searches(settings)), "search.method", "invalid_value")
    verifiers = _allowed(search.verifiers, "search.verifiers", settings) or default_verifiers(model, settings)
    judges = _allowed(search.judges, "search.judges", settings)
    arguments = {name: recorded(path, name) for name, path in (pictures or {}).items()}
    arguments |= _numbers_of(fields)
    try:
        return Request(
            model=settings.models[model], prompt=fields.prompt, search=method,
            verifier=verifiers, judge=judges or list(NONE),
            budget=_budget(fields, search, model, settings), target=_target(search.target, verifiers),
            num_inference_steps=fields.num_inference_steps, **_drafts(search.draft),
            guidance_scale=fields.guidance_scale, negative_prompt=fields.negative_prompt, keep=fields.n or 1,
            seed=seed if fields.seed is None else fields.seed, pipeline_args=arguments,
            device=settings.device, dtype=settings.dtype, **size,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise refused(without_paths(str(error), settings)) from None


def _drafts(given: int | str | None) -> dict[str, Any]:
    """What the search makes, as fields of a request.

    Raises:
        ValueError: in one line.
    """
    draft = draft_of(given) if isinstance(given, str) else None
    if draft is not None:
        at_most(MOST_AT_ONCE, best=draft.best)
    return {"draft": given} if isinstance(given, str) else {"search_steps": given}


def _renders(given: int | str | None, wanted: int) -> int:
    """How many full images a search by drafts makes at its end, and the plain one."""
    if given is None or given == NO_DRAFT:
        return 0
    try:
        best = 1 if isinstance(given, int) else read_draft(given).best
    except (ValueError, TypeError) as error:
        raise refused(str(error)) from None
    return 1 + max(wanted, best)


def images_for(job_request: Request, wanted: int, there: int, spent: int) -> int:
    """A budget in images with which a search that ended before it had ``wanted`` ones comes to them.

    Args:
        job_request: what was searched for.
        wanted: how many different images the answer has.
        there: how many there are.
        spent: images that were made, drafts and all.
    """
    draft = job_request.search_steps if job_request.draft is None else job_request.draft
    return spent + wanted - there + (_renders(draft, wanted) if draft is not None else 0)


def refused(text: str) -> ApiError:
    """Wrong use, as a client is told, with the field that the message is about where it is about one."""
    words = re.findall(r"[a-z_]+", text.partition(", got")[0].lower())
    param = next((PARAMS[word] for word in words if word in PARAMS), None)
    return ApiError(400, text, param, "invalid_value")


def _check_words(fields: GenerationFields) -> None:
    """Refuse what images of ours cannot be."""
    if fields.background == "transparent":
        raise ApiError(400, "expected background auto or opaque, got 'transparent': images are opaque", "background",
                       "unsupported_value")  # fmt: skip
    if fields.output_compression not in (None, 100) and fields.output_format in (None, "png"):
        raise ApiError(400, "expected output_compression of 100 for png, or output_format jpeg or webp, got "
                       f"{fields.output_compression}", "output_compression", "invalid_value")  # fmt: skip


def _size(text: str | None, settings: ImagesSettings) -> dict[str, int]:
    if text in (None, "auto"):
        return {}
    width, height = (int(one) for one in str(text).split("x"))
    if max(width, height) > settings.most_side:
        raise ApiError(400, f"expected a size of at most {settings.most_side} pixels a side, got {text}", "size",
                       "invalid_value")  # fmt: skip
    return {"height": height, "width": width}


def _numbers_of(fields: GenerationFields) -> dict[str, float]:
    """Numbers that only some pipelines take."""
    found = {"true_cfg_scale": fields.true_cfg_scale}
    if isinstance(fields, EditFields):
        found["strength"] = fields.strength
    return {name: float(value) for name, value in found.items() if value is not None}


def _allowed(given: str | Sequence[str] | None, param: str, settings: ImagesSettings) -> list[str] | None:
    """Names of verifiers that are offered; None where none is named."""
    if given is None:
        return None
    names, offered = [given] if isinstance(given, str) else list(given), offered_verifiers(settings)
    for name in names:
        if name not in offered:
            raise ApiError(400, unknown("verifier", name, list(offered)), param, "invalid_value")
    return [offered[name] for name in names]


def _target(given: float | Mapping[str, float] | None, verifiers: Sequence[str]) -> Any:
    """The scores at which a search stops.

    Raises:
        ApiError: 400, on one of no verifier.
    """
    if not isinstance(given, Mapping):
        return given
    names = [registry.score_name(one) for one in verifiers]
    for name in given:
        if name not in names:
            raise ApiError(400, unknown("verifier", name, names), "search.target", "invalid_value")
    return dict(given)


def _budget(fields: GenerationFields, search: SearchFields, model: str, settings: ImagesSettings) -> list[str]:
    """The budget as texts: what ``search`` says, else what ``quality`` means, and never fewer images than are wanted.

    Raises:
        ApiError: 400, on one that is larger than the server allows, or does not hold the images that are wanted.
    """
    wanted, param = fields.n or 1, "search.budget"
    if search.budget is None:
        images = max(settings.images_of(fields.quality or "auto"), wanted)
        return [f"{images + _renders(search.draft, wanted)} images"]
    try:
        limits = parse_budget(search.budget)
    except (ValueError, TypeError) as error:
        raise ApiError(400, str(error), param, "invalid_value") from None
    given = {unit: getattr(limits, unit) for unit in UNITS if getattr(limits, unit) is not None}
    if (said := _too_much(given, settings)) is not None:
        raise ApiError(400, said, param, "invalid_value")
    steps = fields.num_inference_steps or _default_steps(model, settings)
    if limits.nfe is not None and steps and search.draft is None and limits.nfe < wanted * steps:
        raise ApiError(400, f"expected a budget of at least the {wanted * steps} NFE of n = {wanted} images at {steps} "
                       f"steps, got {limits.nfe}", param, "invalid_value")  # fmt: skip
    if limits.images is not None and limits.images < wanted:
        raise ApiError(400, f"expected a budget of at least the {wanted} images of n, got {limits.images}", param,
                       "invalid_value")  # fmt: skip
    every = {**given, "images": limits.images or settings.most_images}  # whatever it is in, it ends
    return [f"{value:g} {unit}" if unit == "seconds" else f"{int(value)} {unit}" for unit, value in every.items()]


UNITS = ("images", "nfe", "seconds")
"""Of budgets."""


def _too_much(given: Mapping[str, float], settings: ImagesSettings, more: int = 0) -> str | None:
    """What is said of a budget that is larger than the server allows; None of another.

    Args:
        given: the limits by their units.
        settings: what is offered.
        more: images that are allowed besides.
    """
    images = settings.most_images + more
    most = {"images": images, "nfe": images * settings.most_steps, "seconds": settings.most_seconds}
    over = next((unit for unit, value in given.items() if value > most[unit]), None)
    return None if over is None else f"expected a budget of at most {most[over]:g} {over}, got {given[over]:g}"


def _default_steps(model: str, settings: ImagesSettings) -> int | None:
    """A model's own number of steps; None where its card does not say it."""
    name = settings.models[model]
    found = registry.card(bundled(name) or name).get("default", {}).get("num_inference_steps")
    return found if isinstance(found, int) else None


SAID = (
    "model", "prompt", "search", "verifier", "judge", "budget", "target", "num_inference_steps", "search_steps",
    "draft", "guidance_scale", "negative_prompt", "keep", "seed", "pipeline_args", "device", "dtype", "height", "width",
)  # fmt: skip
"""Fields of a :class:`~noisewright.request.Request` that :func:`request_of` sets; of the others it has the defaults."""

PICTURES, NUMBERS = ("image", "mask_image"), ("true_cfg_scale", "strength")
"""Arguments of a pipeline's call that requests have."""


def check_offered(request: Request, settings: ImagesSettings, pictures: Path) -> None:
    """Refuse to go on with what was noted, where no request to this server could ask for it: a note is data.

    Args:
        request: of the note.
        settings: what is offered now.
        pictures: the folder of the request's own images.

    Raises:
        ValueError: in one line.
    """
    if request.model not in settings.models.values():
        raise ValueError(f"the server offers {short(request.model)} no longer")
    if request.search not in offered_searches(settings):
        raise ValueError(f"the server offers the search {short(request.search)} no longer")
    offered = {*offered_verifiers(settings).values(), *NONE}
    for name in (*(request.verifier or ()), *(request.judge or ())):
        if name not in offered:
            raise ValueError(f"the server offers the verifier {short(name)} no longer")
    _check_bounds(request, settings)
    plain = Request(model=request.model, prompt=request.prompt)
    for name in Request.model_fields:
        if name not in SAID and getattr(request, name) != getattr(plain, name):
            raise ValueError(f"expected no {name} in the note of a request, got {short(getattr(request, name))}")
    if (request.device, request.dtype) != (settings.device, settings.dtype):
        raise ValueError(f"the server works on {settings.device} in {settings.dtype} now")
    for name, value in request.pipeline_args.items():
        if name in NUMBERS and isinstance(value, (int, float)):
            continue
        path = value["$file"][0] if name in PICTURES and names_file(value) and isinstance(value, Mapping) else ""
        if path != str(pictures.absolute() / f"{name}.png"):
            raise ValueError(f"expected no {name} in the note of a request but its own images, got {short(value)}")


def _check_bounds(request: Request, settings: ImagesSettings) -> None:
    """Refuse what costs more than a request to this server may.

    Raises:
        ValueError: in one line.
    """
    budget = parse_budget(request.budget)
    given = {unit: getattr(budget, unit) for unit in UNITS if getattr(budget, unit) is not None}
    said = _too_much(given, settings, more=1 + MOST_AT_ONCE)  # quality's images, and those that drafts are rendered as
    if said is not None or not given:
        raise ValueError(said or "expected a budget in the note of a request, got none")
    at_most(settings.most_side, height=request.height, width=request.width)
    at_most(settings.most_steps, num_inference_steps=request.num_inference_steps, search_steps=request.search_steps)
    at_most(settings.most_n, keep=request.keep)
    if request.draft is not None and (draft := draft_of(request.draft)) is not None:
        at_most(MOST_AT_ONCE, best=draft.best)
