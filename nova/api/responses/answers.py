"""The shapes of whole answers, for the published document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class InputDetails(BaseModel):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(BaseModel):
    reasoning_tokens: int


class Usage(BaseModel):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseDocument(BaseModel):
    """Beside these it repeats what the request asked for."""

    id: str
    object: Literal["response"]
    created_at: int
    model: str
    status: Literal["completed", "incomplete"]
    incomplete_details: dict[str, str] | None
    error: None
    output: list[dict[str, Any]]
    usage: Usage


class Deleted(BaseModel):
    id: str
    object: Literal["response"]
    deleted: Literal[True]
