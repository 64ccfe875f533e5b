"""Server-sent events: an answer that comes piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nova.api import errors
from nova.api.errors import ApiError
from nova.api.gate import error_response

KEEP_ALIVE_S = 10.0
"""s; after so long without a word (in the queue, in a long prompt) a comment is sent, or proxies close the stream."""


STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
"""For the published document, beside the model of a route's whole answer."""


class EventStream(Response):
    """Sends each item of `events`, whole events in bytes, as it comes, and closes `events` at the end on every path.

    An ApiError before the first item is answered with its own status; after it, with an error event.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], keep_alive_s: float = KEEP_ALIVE_S) -> None:
        # X-Accel-Buffering: nginx would otherwise collect the events.
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        out = _Out(send, self.raw_headers)
        comments = asyncio.create_task(self._keep_alive(out))
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    await out.write(event)
        except ApiError as error:
            if not out.started:
                return await error_response(error, scope)(scope, receive, send)
            await out.write(errors.event(error, scope["path"], scope["state"]["request_id"]))
        finally:
            comments.cancel()
            await asyncio.gather(comments, return_exceptions=True)
        await out.end()

    async def _keep_alive(self, out: _Out) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(out.last + self._keep_alive_s - now())
            if now() >= out.last + self._keep_alive_s:
                await out.write(b": keep-alive\n\n")


class _Out:
    """The body of one response. `last` is when something was last sent, on the loop's clock."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self._turn = asyncio.Lock()
        self._now = asyncio.get_running_loop().time
        self.started = False
        self.last = self._now()

    async def write(self, data: bytes) -> None:
        async with self._turn:
            if not self.started:
                self.started = True
                await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            self.last = self._now()

    async def end(self) -> None:
        await self.write(b"")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
