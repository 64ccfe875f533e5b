"""The shapes of whole answers, for the published document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class Usage(BaseModel):
    """`input_tokens` are those of the prompt that were computed, `cache_read_input_tokens` those that were not."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class MessageDocument(BaseModel):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]
    stop_sequence: str | None
    usage: Usage


class TokenCount(BaseModel):
    input_tokens: int


class ErrorText(BaseModel):
    type: str
    message: str


class ErrorDocument(BaseModel):
    type: Literal["error"]
    error: ErrorText
    request_id: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorDocument, "description": "The request is wrong, or there is no room for it"},
    "5XX": {"model": ErrorDocument, "description": "The model is not served, or the request was lost"},
}
"""Responses of every route that can refuse."""
