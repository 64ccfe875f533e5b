"""A client of /v1/completions that streams, the same for every server."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
CONNECT_S, READ_S = 10.0, 120.0
DONE = "[DONE]"


@dataclass
class Answer:
    """`arrivals` are monotonic nanoseconds, one for each event with text; `tokens` is what the server's usage says."""

    status: int
    error: str = ""
    retry_after_s: float = 0.0
    tokens: int = 0
    finish: str = ""
    arrivals: list[int] = field(default_factory=list)


def client(address: str) -> httpx.AsyncClient:
    """`address` is the server's URL."""
    return httpx.AsyncClient(base_url=address, limits=LIMITS, timeout=httpx.Timeout(READ_S, connect=CONNECT_S))


async def events(http: httpx.AsyncClient, body: dict[str, Any]) -> AsyncGenerator[Answer]:
    """The answer so far, after every event and at the end. Leaving early hangs up. Raises httpx.HTTPError."""
    wanted = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async with http.stream("POST", "/v1/completions", json=wanted) as response:
        answer = Answer(response.status_code)
        if response.status_code != httpx.codes.OK:
            answer.error = (await response.aread()).decode(errors="replace")
            answer.retry_after_s = float(response.headers.get("retry-after", 0))
            yield answer
            return
        async for line in response.aiter_lines():
            if not line.startswith("data:") or (data := line.removeprefix("data:").strip()) == DONE:
                continue
            _take(answer, json.loads(data))
            yield answer
    yield answer


async def completion(http: httpx.AsyncClient, body: dict[str, Any]) -> Answer:
    """The whole answer. Raises httpx.HTTPError, and RuntimeError for a refusal."""
    async with aclosing(events(http, body)) as answers:
        answer = [each async for each in answers][-1]
    if answer.error:
        raise RuntimeError(f"{http.base_url} answered {answer.status}: {answer.error}")
    return answer


def _take(answer: Answer, event: dict[str, Any]) -> None:
    if "error" in event:
        answer.error = json.dumps(event["error"])
    for choice in event.get("choices", []):
        if choice.get("text"):
            answer.arrivals.append(time.monotonic_ns())
        answer.finish = choice.get("finish_reason") or answer.finish
    if usage := event.get("usage"):
        answer.tokens = usage["completion_tokens"]
