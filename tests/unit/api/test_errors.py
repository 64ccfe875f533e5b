"""Errors in each API's own shape. Pure."""

from __future__ import annotations

import json

import pytest

from nova.api import errors
from nova.api.errors import ApiError, refusal
from nova.wire.requests import Failed


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (404, "invalid_request_error", "not_found_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (503, "server_error", "overloaded_error"),
        (504, "timeout_error", "timeout_error"),
    ],
)
def test_each_api_names_an_error_in_its_own_words(status: int, openai: str, anthropic: str) -> None:
    error = ApiError(status, "why", param="n")
    told = {"message": "why", "type": openai, "param": "n", "code": None}
    assert errors.body(error, "/v1/chat/completions", "req_1") == {"error": told}
    told = {"type": anthropic, "message": "n: why"}  # there is no place for the field but the words
    expected = {"type": "error", "error": told, "request_id": "req_1"}
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        assert errors.body(error, path, "req_1") == expected
    assert "error" not in errors.body(error, "/v1/messagesx", "req_1").get("type", "")


def test_a_code_that_is_not_known_is_an_error_of_the_server() -> None:
    error = refusal(Failed("", "why", code="later"))
    assert (error.status, error.code, str(error)) == (500, "later", "why")


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (2.5, "3")])
def test_a_busy_server_says_when_to_come_back_in_whole_seconds(seconds: float, header: str) -> None:
    error = refusal(Failed("", "full", code="busy", retry_after_s=seconds))
    assert errors.headers(error) == {"retry-after": header}


def test_a_wrong_request_is_not_to_be_tried_again() -> None:
    assert errors.headers(refusal(Failed("", "too long", code="too_long"))) == {}


def test_a_stream_of_openai_ends_with_done_after_the_error_and_anthropics_with_the_error() -> None:
    error = ApiError(502, "node-2\nis gone")
    event, data, _, done, *_ = errors.event(error, "/v1/chat/completions", "req_1").decode().split("\n")
    assert (event, done) == ("event: error", "data: [DONE]")
    assert json.loads(data.removeprefix("data: "))["error"]["message"] == "node-2\nis gone"
    assert b"[DONE]" not in errors.event(error, "/v1/messages", "req_1")
