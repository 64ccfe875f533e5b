"""What every request passes before and while it is answered: key, room, size, time, and whether its client is there.

One ASGI middleware, so that it holds for every route alike, with bodies of unknown length and with event streams.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nova.api import errors
from nova.api.auth import Keys
from nova.api.errors import ApiError, invalid, is_anthropic
from nova.config.schema import Api
from nova.ids import new_request_id

log = structlog.get_logger(__name__)

OPEN = frozenset({"/health", "/ready"})
"""Asked by what watches over the process: no key is needed."""

UNCOUNTED = OPEN | {"/metrics"}
"""Answered also when there is no room: that is when people look."""

GRACE_S = 5.0
"""s; the coordinator ends a request at its deadline and says why; the connection is cut this much later."""


class Gate:
    """The limits of `config`. Routers need `deadline_s`, the time that each of their requests has."""

    def __init__(self, config: Api) -> None:
        self.deadline_s = config.request_s
        self.keys = Keys(config.keys)
        self.max_body = config.max_body_bytes
        self._room = config.concurrent
        self._inside = 0
        self._works: set[asyncio.Future[None]] = set()

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for requests in progress. Raises ApiError: 429."""
        if self._inside >= self._room:
            raise ApiError(429, f"{self._room} requests are in progress, try again later", code="rate_limit_exceeded")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @contextmanager
    def working(self, work: asyncio.Future[None]) -> Iterator[None]:
        self._works.add(work)
        try:
            yield
        finally:
            self._works.discard(work)

    async def end(self, within_s: float) -> None:
        """Let what is in progress come to its own end for so long, then end it: 503, or a cut stream."""
        if self._works:
            _, late = await asyncio.wait(self._works, timeout=within_s)
            for work in late:
                work.cancel()


class Door:
    """The middleware round `app`."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = f"req_{new_request_id()}"
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
                if is_anthropic(scope["path"]):
                    MutableHeaders(scope=message)["request-id"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(http_request=request_id):
            try:
                await self._enter(scope, receive, named)
            except ApiError as error:
                if started:  # nothing can be said any more: uvicorn closes the connection
                    log.warning("an answer was cut", path=scope["path"], why=error.message)
                else:
                    await error_response(error, scope)(scope, receive, named)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        if path not in OPEN:
            scope["state"]["owner"] = self._gate.keys.check(headers)
        if path in UNCOUNTED:
            return await self._app(scope, receive, send)
        limit_s = self._gate.deadline_s + GRACE_S
        with self._gate.place():
            try:
                async with asyncio.timeout(limit_s) as limit:
                    body = await self._body(headers, receive)
                    check_text(body)
                    await self._while_wanted(scope, body, receive, send)
            except TimeoutError as late:
                if not limit.expired():
                    raise
                raise ApiError(408, f"the request was not done within {limit_s:g} s", code="timeout") from late

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body. It is counted as it comes: a length may be missing, or a lie. Raises ApiError: 413."""
        length, body = headers.get("content-length", ""), bytearray()
        most = self._gate.max_body
        too_large = ApiError(413, f"the body is larger than {most} bytes (api.max_body_bytes)", code="body_too_large")
        if length.isdecimal() and int(length) > most:
            raise too_large
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ApiError(400, "the client hung up inside the body")
            body += message.get("body", b"")
            if len(body) > most:
                raise too_large
            if not message.get("more_body", False):
                return bytes(body)

    async def _while_wanted(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let `app` answer; when the client hangs up, it is cancelled, and so is all that it waits for."""
        given = False

        async def give() -> Message:
            nonlocal given
            if given:  # a hang-up is seen below
                await asyncio.get_running_loop().create_future()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        work = asyncio.ensure_future(self._app(scope, give, send))
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            with self._gate.working(work):
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.cancelled():
                raise ApiError(503, "the server ends", code="unavailable")
            if work.done():
                work.result()
            else:
                log.debug("the client hung up", path=scope["path"])
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


def check_text(body: bytes) -> None:
    """Raises ApiError for what is not UTF-8, which Python's JSON would read all the same, and for half a surrogate
    pair: JSON can escape it, but no tokenizer reads it."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise invalid(f"the body is not UTF-8 text: {error.reason} at byte {error.start}") from error
    if b"\0" in body:
        raise invalid("the body is not UTF-8 text: it has a NUL, as UTF-16 does")
    if b"\\ud" not in body.lower():
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise invalid("the body has half a surrogate pair, as \\ud800, which is no character") from error
    except RecursionError as error:
        raise invalid("the body has too many objects and arrays inside each other") from error
    except ValueError:
        return  # no JSON: the route says so


def error_response(error: ApiError, scope: Scope) -> JSONResponse:
    """The answer to a request that fails, in its API's shape."""
    document = errors.body(error, scope["path"], scope["state"]["request_id"])
    return JSONResponse(document, error.status, errors.headers(error))


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
