"""The coordinator as the HTTP front in its process sees it: a client without a socket in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from nova.coordinator.port import Chat, Event, ModelFacts, Prompt
from nova.coordinator.texts import Texts
from nova.wire.messages import Message
from nova.wire.requests import Completed, Embedded, Failed, Generate, StatusReply

_LAST = (Completed, Embedded, Failed)


class Desk(Protocol):
    """What the front needs of the coordinator. Sessions of its own have negative numbers."""

    @property
    def why_not(self) -> str: ...
    def ask(self, session: int, generate: Generate) -> None: ...
    def abandon(self, session: int) -> None: ...
    def status(self, request: str) -> StatusReply: ...
    def metrics(self) -> bytes: ...


class Front:
    """A `nova.coordinator.port.Port`. To be used from the coordinator's own event loop."""

    def __init__(self, desk: Desk, texts: Texts) -> None:
        self._desk = desk
        self._texts = texts
        # Without a bound of their own: a client that does not read is answered with no more than its max_tokens, and
        # its deadline ends it.
        self._answers: dict[int, asyncio.Queue[Event]] = {}
        self._session = 0

    @property
    def model(self) -> ModelFacts | None:
        model = self._texts.model
        if model is None:
            return None
        return ModelFacts(
            model.name, model.context, model.vocabulary, model.created, model.text.dialect, model.sampling
        )

    @property
    def why_not(self) -> str:
        return self._desk.why_not

    async def encode(self, text: str) -> list[int]:
        return await self._texts.encode(text)

    async def encode_chat(self, chat: Chat) -> Prompt:
        return await self._texts.encode_chat(chat)

    async def decode(self, tokens: list[int]) -> str:
        return await self._texts.decode(tokens)

    async def ask(self, generate: Generate) -> AsyncGenerator[Event, None]:
        """A session of its own for each request: closing the generator ends it, as a client's hang-up does."""
        self._session -= 1
        session, answers, done = self._session, asyncio.Queue[Event](), False
        self._answers[session] = answers
        try:
            self._desk.ask(session, generate)
            while not done:
                event = await answers.get()
                done = isinstance(event, _LAST)
                yield event
        finally:
            del self._answers[session]
            if not done:
                self._desk.abandon(session)

    def status(self) -> StatusReply:
        return self._desk.status("")

    def metrics(self) -> bytes:
        return self._desk.metrics()

    def answer(self, session: int, message: Message) -> None:
        """From the coordinator to a session of the front's; one that has hung up hears no more."""
        if session in self._answers and isinstance(message, Event):
            self._answers[session].put_nowait(message)
