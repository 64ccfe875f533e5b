"""Event streams: what is sent while nothing comes, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from nova.api.errors import ApiError
from nova.api.events import EventStream
from tests.unit.api.fake import LIMIT_S

SCOPE = {"type": "http", "path": "/v1/chat/completions", "state": {"request_id": "req_1"}}


class Client:
    """Takes what a stream sends. `heard` is set by each message."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.heard = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        self.heard.set()

    async def receive(self) -> Any:
        return await asyncio.get_running_loop().create_future()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])


async def until(client: Client, part: bytes) -> None:
    while part not in client.body:
        client.heard.clear()
        await client.heard.wait()


def test_a_comment_is_sent_while_nothing_comes_and_then_the_events() -> None:
    async def check() -> None:
        ready, client = asyncio.Event(), Client()

        async def events() -> AsyncGenerator[bytes, None]:
            await ready.wait()
            yield b"data: 1\n\n"

        async with asyncio.timeout(LIMIT_S):
            answer = asyncio.create_task(EventStream(events(), 0.01)(SCOPE, client.receive, client.send))
            await until(client, b": keep-alive\n\n: keep-alive\n\n")
            ready.set()
            await answer
        assert client.status == 200
        assert client.body.endswith(b"data: 1\n\n")
        assert client.messages[-1]["more_body"] is False

    asyncio.run(check())


def test_an_error_before_the_first_event_has_its_own_status() -> None:
    async def check() -> None:
        client = Client()

        async def events() -> AsyncGenerator[bytes, None]:
            raise ApiError(429, "full", retry_after_s=2)
            yield b""

        await EventStream(events())(SCOPE, client.receive, client.send)
        assert (client.status, b"full" in client.body) == (429, True)
        assert (b"retry-after", b"2") in client.messages[0]["headers"]

    asyncio.run(check())


def test_an_error_after_a_comment_is_an_event() -> None:
    async def check() -> None:
        fail, client = asyncio.Event(), Client()

        async def events() -> AsyncGenerator[bytes, None]:
            await fail.wait()
            raise ApiError(503, "not served")
            yield b""

        async with asyncio.timeout(LIMIT_S):
            answer = asyncio.create_task(EventStream(events(), 0.01)(SCOPE, client.receive, client.send))
            await until(client, b": keep-alive")
            fail.set()
            await answer
        assert (client.status, b"event: error\ndata: " in client.body) == (200, True)
        assert client.body.endswith(b"data: [DONE]\n\n")

    asyncio.run(check())


def test_a_stream_that_is_cancelled_closes_its_events_wherever_it_stands() -> None:
    async def check(stuck_in_send: bool) -> None:
        closed, client = asyncio.Event(), Client()

        async def events() -> AsyncGenerator[bytes, None]:
            try:
                yield b"data: 1\n\n"
                await asyncio.get_running_loop().create_future()
            finally:
                closed.set()

        async def send(message: Any) -> None:
            await client.send(message)
            if stuck_in_send and message["type"] == "http.response.body":
                await asyncio.get_running_loop().create_future()

        async with asyncio.timeout(LIMIT_S):
            answer = asyncio.create_task(EventStream(events())(SCOPE, client.receive, send))
            await until(client, b"data: 1")
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
        assert closed.is_set()

    asyncio.run(check(stuck_in_send=True))
    asyncio.run(check(stuck_in_send=False))
