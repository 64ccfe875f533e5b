"""A port without a coordinator: it says what a test scripts, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Semaphore, Thread

import numpy as np

from nova.api.server import Server
from nova.config.schema import Api
from nova.coordinator.port import Chat, Event, ModelFacts, Prompt
from nova.errors import ModelError
from nova.model.dialect import Dialect
from nova.wire.requests import Accepted, Completed, Embedded, Failed, Generate, Piece, StatusReply
from nova.wire.work import TokenLogprob

MODEL = "small"
LIMIT_S = 20.0


@dataclass
class FakePort:
    """Tokens are UTF-8 bytes. Each request is answered with `text`, piece by piece of `step` characters.

    A test may set `failure`, which comes after so many pieces, or `held` to answer Accepted only, or `others_held`: all
    but the first. `accepted` counts up once a client's stream has been told so.
    """

    text: str = "Hello there"
    step: int = 3
    dialect: Dialect = field(default_factory=Dialect)
    sampling: dict[str, float] = field(default_factory=dict)
    in_thought: bool = False
    opened: bool = True
    why_not: str = ""
    finish: str = "stop"
    cached: int = 0
    failure: Failed | None = None
    fails_after: int = 0
    others_held: bool = False
    held: bool = False
    asked: list[Generate] = field(default_factory=list)
    chats: list[Chat] = field(default_factory=list)
    abandoned: SimpleQueue[str] = field(default_factory=SimpleQueue)
    accepted: Semaphore = field(default_factory=lambda: Semaphore(0))
    _ending: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def model(self) -> ModelFacts | None:
        return ModelFacts(MODEL, 4096, 256, 1700000000, self.dialect, self.sampling) if self.opened else None

    async def encode(self, text: str) -> list[int]:
        if text == "defect":
            raise ZeroDivisionError("a secret detail")
        return list(text.encode())

    async def encode_chat(self, chat: Chat) -> Prompt:
        self.chats.append(chat)
        if any(message["content"] == "unreadable" for message in chat.messages):
            raise ModelError("the chat template fails")
        return Prompt(list("".join(str(message["content"]) for message in chat.messages).encode()), self.in_thought)

    async def decode(self, tokens: list[int]) -> str:
        if any(token > 255 for token in tokens):
            raise ModelError(f"a token of {tokens[:3]} is not in the vocabulary")
        return bytes(tokens).decode(errors="replace")

    def end(self) -> None:
        """As a coordinator that ends: every request fails."""
        self._ending.set()

    async def ask(self, generate: Generate) -> AsyncGenerator[Event, None]:
        self.asked.append(generate)
        done = False
        try:
            for event in self._answer(generate):
                await asyncio.sleep(0)
                done = isinstance(event, Completed | Embedded | Failed)
                yield event
                if isinstance(event, Accepted):
                    self.accepted.release()
            if not done:
                await self._ending.wait()
                done = True
                yield Failed(generate.request, "the coordinator ends", code="unavailable")
        finally:
            if not done:
                self.abandoned.put(generate.request)

    def _answer(self, generate: Generate) -> Iterator[Event]:
        assert isinstance(generate.prompt, list)
        request, read = generate.request, len(generate.prompt)
        if self.failure is not None and not self.fails_after:
            yield self.failure
            return
        yield Accepted(request, read)
        if generate.pool:
            vector = np.array([3.0, 4.0] if generate.pool == "mean" else [0.0, read], "<f4")
            yield Embedded(request, vector.tobytes(), read)
            return
        if self.held or (self.others_held and generate is not self.asked[0]):
            return
        for index, start in enumerate(range(0, len(self.text), self.step)):
            if self.failure is not None and index == self.fails_after:
                yield self.failure
                return
            text = self.text[start : start + self.step]
            yield Piece(request, list(text.encode()), text, _logprobs(text, generate.sampling.logprobs))
        if self.failure is not None:
            yield self.failure
            return
        written = len(self.text.encode())
        yield Completed(request, self.finish, read, written, 0.1, 1.0, 1.0, "tcp", [], [], cached_tokens=self.cached)

    def status(self) -> StatusReply:
        return StatusReply("", "a", "0", MODEL, "serving", "tcp", 1, {}, [], [], {})

    def metrics(self) -> bytes:
        return b"# HELP nova_up 1 while it serves\nnova_up 1.0\n"


def _logprobs(text: str, count: int) -> list[TokenLogprob]:
    if count < 0:
        return []
    tops = [(token, -0.5 - index) for index, token in enumerate(b"abcdefghijklmnopqrst"[:count])]
    return [TokenLogprob(token, -0.25, tops) for token in text.encode()]


@contextmanager
def served(port: FakePort, config: Api | None = None, before_close: Callable[[], None] = lambda: None) -> Iterator[str]:
    """A real server in a thread of its own, by its address. `before_close` is called in its loop."""
    server, loop, told = Server(port, config or Api(listen="127.0.0.1:0")), asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        running = asyncio.create_task(server.run())
        await told.wait()
        before_close()
        await server.close()
        await running

    thread = Thread(target=asyncio.Runner(loop_factory=lambda: loop).run, args=(run(),))
    thread.start()
    try:
        yield server.url
    finally:
        loop.call_soon_threadsafe(told.set)
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        loop.close()
