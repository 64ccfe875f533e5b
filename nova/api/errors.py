"""Refusals over HTTP, in the shape of the API that was asked. Every answer that is not 2xx is made here.

OpenAI:    {"error": {"message", "type", "param", "code"}}
Anthropic: {"type": "error", "error": {"type", "message"}, "request_id"}, on paths below /v1/messages
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from nova.errors import NovaError
from nova.wire.requests import Failed

ANTHROPIC = "/v1/messages"

_OPENAI_KINDS: Mapping[int, str] = {
    401: "authentication_error", 403: "permission_error", 408: "timeout_error", 429: "rate_limit_error",
    504: "timeout_error",
}  # fmt: skip
_ANTHROPIC_KINDS: Mapping[int, str] = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip
_STATUS: Mapping[str, tuple[int, str]] = {
    "invalid": (400, "invalid_value"),
    "too_long": (400, "context_length_exceeded"),
    "busy": (429, "rate_limit_exceeded"),
    "deadline": (504, "timeout"),
    "unavailable": (503, "unavailable"),
    "lost": (502, "request_lost"),
}
"""A Failed's code -> HTTP status and OpenAI's (or, where it has none, Nova's) code."""

_RETRY_S = 1.0
"""Retry-After of 429 and 503 that say nothing better."""


class ApiError(NovaError):
    """A request that is answered with an error. `param` names the field that is wrong."""

    def __init__(
        self, status: int, message: str, *, code: str = "", param: str | None = None, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s or (_RETRY_S if status in (429, 503) else 0.0)


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, message, code=code, param=param)


def refusal(failed: Failed) -> ApiError:
    """What came of a request that the coordinator failed."""
    status, code = _STATUS.get(failed.code, (500, failed.code))
    return ApiError(status, failed.reason, code=code, retry_after_s=failed.retry_after_s)


def is_anthropic(path: str) -> bool:
    return path == ANTHROPIC or path.startswith(ANTHROPIC + "/")


def body(error: ApiError, path: str, request_id: str) -> dict[str, Any]:
    """The JSON document of an error at `path`."""
    if is_anthropic(path):
        kind = _ANTHROPIC_KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
        of = f"{error.param}: " if error.param and error.param not in error.message else ""
        return {"type": "error", "error": {"type": kind, "message": of + error.message}, "request_id": request_id}
    kind = _OPENAI_KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    told = {"message": error.message, "type": kind, "param": error.param, "code": error.code or None}
    return {"error": told}


def headers(error: ApiError) -> dict[str, str]:
    """Retry-After in whole seconds, where trying again may help; the scheme, where a key is missing."""
    found = {"retry-after": str(math.ceil(error.retry_after_s))} if error.retry_after_s else {}
    return found | ({"www-authenticate": "Bearer"} if error.status == 401 else {})


def event(error: ApiError, path: str, request_id: str) -> bytes:
    """The end of an event stream that breaks."""
    text = json.dumps(body(error, path, request_id))
    done = "" if is_anthropic(path) else "data: [DONE]\n\n"
    return f"event: error\ndata: {text}\n\n{done}".encode()
