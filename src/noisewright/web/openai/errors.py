"""Errors in OpenAI's shape, ``{"error": {"message", "type", "param", "code"}}``, with the statuses of clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noisewright.outside.texts import clean

TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "invalid_request_error",
    405: "invalid_request_error", 409: "conflict_error", 413: "invalid_request_error", 415: "invalid_request_error",
    422: "invalid_request_error", 429: "rate_limit_error", 499: "cancelled", 500: "server_error", 503: "server_error",
}  # fmt: skip


class ApiError(Exception):
    """What a client is told.

    Args:
        status: of HTTP.
        message: one line.
        param: the field of the request that is wrong, such as ``search.budget``.
        code: a word for programs.
        headers: of the answer.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": clean(self, 1000), "type": kind, "param": self.param, "code": self.code}}


ERROR_SCHEMA = {
    "type": "object", "required": ["error"],
    "properties": {
        "error": {
            "type": "object", "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"}, "type": {"type": "string"},
                "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]},
            },
        }
    },
}  # fmt: skip
"""For the OpenAPI schema."""
