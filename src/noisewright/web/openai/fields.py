"""The fields of a request, as OpenAI, the self-hosted servers and we ourselves have them; bounded, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from noisewright.outside.bounds import LONGEST_PROMPT
from noisewright.outside.messages import did_you_mean, short
from noisewright.schemas.checked import LARGEST_SEED, MOST_STEPS, Sayable
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.settings import MOST_AT_ONCE

MOST_PARTIAL = 3
SIZE = r"auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"

Prompt = Annotated[Sayable, Field(min_length=1, max_length=LONGEST_PROMPT, pattern=r"\S")]
Word = Annotated[Sayable, Field(min_length=1, max_length=300)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Amount = Annotated[int, Field(ge=1, le=10**9)] | Annotated[Sayable, Field(min_length=1, max_length=60)]


class SearchFields(BaseModel):
    """How an image is searched for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    method: Word | None = Field(None, description="A search, such as random or zero-order.")
    budget: Amount | Annotated[list[Amount], Field(min_length=1, max_length=3)] | None = Field(
        None, description="Images, or '32 images', '640 nfe', '30 s', or several; in place of what quality means."
    )
    verifiers: Word | Annotated[list[Word], Field(min_length=1, max_length=8)] | None = Field(
        None, description="What the search maximises, among those that the server offers."
    )
    judges: Word | Annotated[list[Word], Field(max_length=8)] | None = Field(
        None, description="Verifiers that the search never sees, told beside its own scores."
    )
    target: Finite | Annotated[dict[Word, Finite], Field(max_length=8)] | None = Field(
        None, description="Stop as soon as an image scores this."
    )
    draft: Steps | Word | None = Field(
        None, description="Search by cheaper images, and render the best in full: a number of steps, or a draft such "
        "as 'truncate,at=0.6'."
    )


class GenerationFields(BaseModel):
    """``POST /v1/images/generations``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: Prompt = Field(description="What to make.")
    model: Word | None = Field(None, description="One of GET /v1/models; by default the first.")
    n: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] | None = Field(None, description="The best n images; by default 1.")
    size: Annotated[Sayable, Field(pattern=rf"^({SIZE})$")] | None = Field(
        None, description="WIDTHxHEIGHT, or auto for the model's own."
    )
    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] | None = Field(
        None, description="How many images are searched among."
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(None, description="Images are opaque.")
    moderation: Literal["auto", "low"] | None = Field(None, description="Without effect.")
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="By default png.")
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="The quality of jpeg and webp; by default 100."
    )
    response_format: Literal["b64_json", "url"] | None = Field(None, description="By default b64_json.")
    style: Literal["vivid", "natural"] | None = Field(None, description="Without effect.")
    user: Annotated[Sayable, Field(max_length=512)] | None = Field(None, description="Is not kept.")
    safety_identifier: Annotated[Sayable, Field(max_length=512)] | None = Field(None, description="Is not kept.")
    stream: bool | None = Field(None, description="Answer with server-sent events.")
    partial_images: Annotated[int, Field(ge=0, le=MOST_PARTIAL)] | None = Field(
        None, description="How often a stream shows the best so far."
    )
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED - 2**32)] | None = Field(
        None, description="Of the first candidate; by default another one each time."
    )
    num_inference_steps: Steps | None = Field(None, description="By default the model's.")
    guidance_scale: Finite | None = Field(None, description="By default the model's.")
    true_cfg_scale: Finite | None = Field(None, description="Of models that have it.")
    negative_prompt: Annotated[Sayable, Field(max_length=LONGEST_PROMPT)] | None = Field(None)
    search: SearchFields | None = Field(None, description="How to search; by default by quality.")


class EditFields(GenerationFields):
    """``POST /v1/images/edits``, beside the images themselves."""

    strength: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="How much is changed.")
    input_fidelity: Literal["high", "low"] | None = Field(None, description="Without effect.")


def read_fields(kind: type[GenerationFields], given: Any) -> GenerationFields:
    """A request's fields.

    Raises:
        ApiError: 400, with the first field that is wrong as its ``param``.
    """
    if not isinstance(given, Mapping):
        raise ApiError(400, f"expected an object of fields, got {short(given)}", code="invalid_body")
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        raise _refusal(kind, error) from None


def _refusal(kind: type[GenerationFields], error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    place = [str(one) for one in first["loc"]]
    whole = ".".join(place[:2]) if place[0] == "search" else place[0]
    param = whole if re.fullmatch(r"[A-Za-z_.]{1,60}", whole) else None
    name = short(place[1] if place[0] == "search" and len(place) > 1 else place[0])
    if first["type"] == "extra_forbidden":
        known = SearchFields if place[0] == "search" and len(place) > 1 else kind
        near = did_you_mean(place[1] if known is SearchFields else place[0], known.model_fields)
        return ApiError(400, f"unknown parameter {name}{near}", param, "unknown_parameter")
    if first["type"] == "missing":
        return ApiError(400, f"missing required parameter {name}", param, "missing_required_parameter")
    wanted = first["msg"].lower().removeprefix("input should be ")
    return ApiError(400, f"expected {wanted} as {param or name}, got {short(first['input'])}", param, "invalid_value")


def from_form(given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Fields of a form as JSON has them: numbers and truths by what the fields are, ``search`` as JSON or in brackets.

    Args:
        given: the texts of each name; several where it ends in ``[]``.

    Raises:
        ApiError: 400, on a ``search`` that is neither.
    """
    found: dict[str, Any] = {}
    for name, texts in given.items():
        text = texts[0]
        inner = re.fullmatch(r"search\[(\w{1,40})\](?:\[(\w*)\])?", name)
        if inner:
            search = found.setdefault("search", {})
            if not isinstance(search, dict) or not isinstance(search.get(inner[1], {}), dict):
                raise ApiError(400, "expected each field of search once", "search", "invalid_value")
            if inner[2]:  # a target of several verifiers
                search.setdefault(inner[1], {})[inner[2]] = _number(text)
            else:
                search[inner[1]] = _number(text) if inner[2] is None else [_number(one) for one in texts]
        elif name == "search":
            try:
                found["search"] = json.loads(text)
            except (ValueError, RecursionError):
                raise ApiError(400, f"expected search as JSON, got {short(text)}", "search", "invalid_value") from None
        elif name in WHOLE or name in REAL:
            found[name] = _number(text)
        else:
            found[name] = {"true": True, "false": False}.get(text.lower(), text) if name == "stream" else text
    return found


WHOLE = ("n", "output_compression", "partial_images", "seed", "num_inference_steps")
REAL = ("guidance_scale", "true_cfg_scale", "strength")


def _number(text: str) -> Any:
    """A number where a text is one."""
    if re.fullmatch(r"-?\d{1,25}", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d{1,25}\.\d{0,25}", text) else text
