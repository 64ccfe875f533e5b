"""The HTTP client of the benches, against answers as servers give them."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from benches.http import Answer, completion, events

STREAM = "\n\n".join(
    [
        ": still waiting",
        'data: {"choices": [{"text": "Once", "finish_reason": null}]}',
        'data: {"choices": [{"text": "", "finish_reason": null}]}',
        'data: {"choices": [{"text": " more", "finish_reason": "length"}]}',
        'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}',
        "data: [DONE]",
        "",
    ]
)


def answered(response: httpx.Response) -> list[Answer]:
    asked = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return response

    async def scene() -> list[Answer]:
        async with httpx.AsyncClient(base_url="http://bench", transport=httpx.MockTransport(handle)) as http:
            return [answer async for answer in events(http, {"prompt": "x"})]

    found = asyncio.run(scene())
    assert asked == [{"prompt": "x", "stream": True, "stream_options": {"include_usage": True}}]
    return found


def test_a_stream_is_read_to_its_usage() -> None:
    last = answered(httpx.Response(200, text=STREAM))[-1]
    assert (last.status, last.error, last.finish, last.tokens, len(last.arrivals)) == (200, "", "length", 2, 2)


def test_a_refusal_says_when_to_come_again() -> None:
    (only,) = answered(httpx.Response(429, headers={"retry-after": "3"}, text="later"))
    assert (only.status, only.error, only.retry_after_s) == (429, "later", 3.0)


def test_an_error_in_the_stream_is_one() -> None:
    last = answered(httpx.Response(200, text='data: {"error": {"message": "the group broke"}}\n\n'))[-1]
    assert "the group broke" in last.error
    assert last.finish == ""


def test_a_completion_that_is_refused_raises_with_the_server_s_words() -> None:
    async def scene() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(503, text="not ready"))
        async with httpx.AsyncClient(base_url="http://bench", transport=transport) as http:
            await completion(http, {})

    with pytest.raises(RuntimeError, match="answered 503: not ready"):
        asyncio.run(scene())
