"""What the OpenAPI schema says of each route, beside its address."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Path

from noisewright.web.openai.errors import ERROR_SCHEMA
from noisewright.web.openai.fields import EditFields, GenerationFields
from noisewright.web.openai.jobs import ID

FILE = re.compile(r"([1-9][0-9]?)\.(png|jpeg|webp)")
"""The name of an answer's image."""

JobId = Annotated[str, Path(json_schema_extra={"pattern": f"^{ID.pattern}$"})]
FileName = Annotated[str, Path(json_schema_extra={"pattern": f"^{FILE.pattern}$"})]
"""Parts of addresses, whose patterns are said and not checked: what does not fit is not there (404)."""

_ERROR = {"content": {"application/json": {"schema": ERROR_SCHEMA}}}
_ANY_200 = {200: {"description": "As it was asked for"}}
_ANY = {"content": {"application/json": {"schema": {"type": "object"}}}}


def _answers(good: dict[str, Any], *statuses: tuple[int, str]) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "As it was asked for", **good},
            **{status: {"description": words, **_ERROR} for status, words in statuses}}  # fmt: skip


def _body(kind: type[GenerationFields], media: str, **files: Any) -> dict[str, Any]:
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs", {})
    schema = _inlined(schema, inner)
    schema["properties"] |= files
    schema["required"] = [*schema["required"], *(name for name in files if name == "image")]
    return {"requestBody": {"required": True, "content": {media: {"schema": schema}}}}


def _inlined(value: Any, inner: dict[str, Any]) -> Any:
    """A schema with what it refers to in place of the references."""
    if isinstance(value, dict):
        if "$ref" in value:
            return _inlined(inner[value["$ref"].rpartition("/")[2]], inner)
        return {key: _inlined(one, inner) for key, one in value.items()}
    return [_inlined(one, inner) for one in value] if isinstance(value, list) else value


_IMAGES = {
    "type": "object", "required": ["created", "data"],
    "properties": {
        "created": {"type": "integer"},
        "data": {"type": "array", "items": {
            "type": "object",
            "properties": {"b64_json": {"type": "string"}, "url": {"type": "string"},
                           "score": {"type": ["number", "null"]}, "seed": {"type": ["integer", "null"]}},
        }},
    },
}  # fmt: skip
_EVENT = {
    "type": "object", "required": ["event", "data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}  # fmt: skip
"""One event of a stream."""

_MADE = _answers(
    {"content": {"application/json": {"schema": _IMAGES}, "text/event-stream": {"schema": _EVENT}}},
    (400, "A field is wrong"), (404, "No such model"), (409, "Cancelled"), (413, "Too large a body"),
    (415, "Another kind of body"), (422, "Another request with its Idempotency-Key"), (429, "The queue is full"),
    (499, "The client went away"), (500, "It failed"), (503, "The server ends"),
)  # fmt: skip
_FILE = {"type": "string", "format": "binary"}

GENERATIONS: dict[str, Any] = {
    "responses": _MADE, "openapi_extra": _body(GenerationFields, "application/json"),
}  # fmt: skip
EDITS: dict[str, Any] = {
    "responses": _MADE, "openapi_extra": _body(EditFields, "multipart/form-data", image=_FILE, mask=_FILE),
}  # fmt: skip
JOBS: dict[str, Any] = {"responses": _answers(_ANY, (404, "No such request"))}
FILES: dict[str, Any] = {"responses": _answers(
    {"content": {f"image/{kind}": {"schema": _FILE} for kind in ("png", "jpeg", "webp")}}, (404, "No such image"),
)}  # fmt: skip
LISTED: dict[str, Any] = {"responses": _answers(_ANY)}
MODELS: dict[str, Any] = {"responses": _answers(_ANY, (404, "No such model"))}
HEALTH: dict[str, Any] = {"responses": {**_ANY_200, 503: {"description": "It takes no requests", **_ANY}}}
PLAIN: dict[str, Any] = {}
