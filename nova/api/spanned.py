"""A port whose requests leave OpenTelemetry spans."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from nova.api.spans import Spans
from nova.coordinator.port import Chat, Event, ModelFacts, Port, Prompt
from nova.wire.requests import Completed, Failed, Generate, StatusReply


class SpannedPort:
    """`port`, with a span for each request that ends; one that its client abandoned leaves none."""

    def __init__(self, port: Port, spans: Spans) -> None:
        self._port = port
        self._spans = spans

    async def ask(self, generate: Generate) -> AsyncGenerator[Event, None]:
        started_ns = time.time_ns()
        async with aclosing(self._port.ask(generate)) as events:
            async for event in events:
                if isinstance(event, Completed | Failed):
                    model = self._port.model
                    self._spans.ended(model.name if model else "", event, started_ns)
                yield event

    @property
    def model(self) -> ModelFacts | None:
        return self._port.model

    @property
    def why_not(self) -> str:
        return self._port.why_not

    async def encode(self, text: str) -> list[int]:
        return await self._port.encode(text)

    async def encode_chat(self, chat: Chat) -> Prompt:
        return await self._port.encode_chat(chat)

    async def decode(self, tokens: list[int]) -> str:
        return await self._port.decode(tokens)

    def status(self) -> StatusReply:
        return self._port.status()

    def metrics(self) -> bytes:
        return self._port.metrics()
