"""Requests on their way in: from a client's text to the queue."""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from nova.coordinator.request import Request
from nova.coordinator.serving import Serving
from nova.coordinator.texts import Texts
from nova.errors import ModelError
from nova.wire.requests import Generate

log = structlog.get_logger(__name__)


class Intake:
    """To be used from one event loop."""

    def __init__(self, serving: Serving, texts: Texts) -> None:
        self._serving = serving
        self._texts = texts
        self._encodings: dict[Request, asyncio.Task[None]] = {}

    def ask(self, session: int, generate: Generate) -> None:
        """A request comes in; whatever becomes of it, its session hears it."""
        if (request := self._serving.arrive(session, generate)) is not None:
            self._encodings[request] = task = asyncio.create_task(self._encode(request))
            task.add_done_callback(partial(self._ended, request))

    def abandon(self, session: int, request: str | None = None) -> None:
        """The client has gone, or no longer wants this request."""
        self._serving.abandon(session, request)
        for each in [each for each in self._encodings if not self._serving.knows(each)]:
            self._encodings[each].cancel()  # others wait for the encoder

    async def _encode(self, request: Request) -> None:
        await self._texts.settled.wait()
        generate, prompt = request.generate, request.generate.prompt
        try:
            if isinstance(prompt, str):
                prompt = await self._texts.encode(prompt, generate.chat)
            self._serving.encoded(request, prompt, self._texts.opened)
        except ModelError as error:
            self._serving.fail(request, str(error), "unavailable" if self._texts.model is None else "invalid")

    def _ended(self, request: Request, task: asyncio.Task[None]) -> None:
        """Whatever a tokenizer may raise, the request does not end in silence."""
        del self._encodings[request]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("prompt could not be encoded", exc_info=error)
            self._serving.fail(request, f"the prompt could not be encoded: {type(error).__name__}: {error}", "invalid")
