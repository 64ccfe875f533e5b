"""A port that says what a test tells it to, behind the real application on a loopback port in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn

from nova.api.app import make_app
from nova.api.port import Chat, Event, ModelFacts, Port, Prompt
from nova.config.schema import Api
from nova.model.dialect import Call, Dialect
from nova.wire.requests import Accepted, Completed, Failed, Generate, Piece

DEADLINE_S = 20.0
MODEL = "tiny"


def parse(text: str, tools: Sequence[Mapping[str, Any]]) -> list[Call]:
    return [json.loads(text)]


DIALECT = Dialect(("<think>", "</think>"), ("<tool_call>", "</tool_call>"), parse)


@dataclass
class Script:
    """`says` are the model's pieces; then it `fails`, or ends as `finish` and `stopped_by` say, or never (`hangs`)."""

    says: Sequence[str] = ("Hel", "lo")
    in_thought: bool = False
    finish: str = "stop"
    stopped_by: str = ""
    cached: int = 0
    fails: str = ""
    refuses: str = ""
    hangs: bool = False
    asked: list[Generate] = field(default_factory=list)
    chats: list[Chat] = field(default_factory=list)
    abandoned: threading.Event = field(default_factory=threading.Event)

    @property
    def model(self) -> ModelFacts:
        return ModelFacts(MODEL, 4096, 256, 1, DIALECT, {"temperature": 0.6})

    async def encode_chat(self, chat: Chat) -> Prompt:
        self.chats.append(chat)
        return Prompt(list(json.dumps([*chat.messages, *chat.tools]).encode()), self.in_thought)

    async def ask(self, generate: Generate) -> AsyncGenerator[Event, None]:
        self.asked.append(generate)
        name, prompt = generate.request, len(generate.prompt)
        if self.refuses:
            yield Failed(name, "no room", code=self.refuses, retry_after_s=3.0)
            return
        try:
            yield Accepted(name, prompt)
            for text in self.says:
                yield Piece(name, [1], text)
                await asyncio.sleep(0)
            if self.hangs:
                await asyncio.get_running_loop().create_future()
        finally:
            self.abandoned.set()
        if self.fails:
            yield Failed(name, "node-2 is gone", len(self.says), self.fails)
        else:
            yield Completed(
                name, self.finish, prompt, len(self.says), 0.1, 1.0, 1.0, "tcp", [], [], self.cached, self.stopped_by
            )

    @property
    def last_chat(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], list(self.chats[-1].messages))


class Stage:
    """The port of a running server, so that each test can put its own script there."""

    def __init__(self) -> None:
        self.script = Script()

    def play(self, *says: str, **rest: Any) -> Script:
        self.script = Script(says, **rest)
        return self.script

    def __getattr__(self, name: str) -> Any:
        return getattr(self.script, name)


@contextmanager
def serving() -> Iterator[tuple[Stage, str]]:
    """The port and the address of a server."""
    stage = Stage()
    app = make_app(cast(Port, stage), Api())
    if "/v1/messages" not in {getattr(r, "path", "") for r in app.routes}:  # TEMP
        from nova.api import anthropic, responses
        from nova.api.gate import Gate

        app.include_router(anthropic.router(cast(Port, stage), Gate(Api())))
        app.include_router(responses.router(cast(Port, stage), Gate(Api())))
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="api", daemon=True)
    started = threading.Event()
    startup = server.startup

    async def announced(*args: Any, **kwargs: Any) -> None:
        await startup(*args, **kwargs)
        started.set()

    server.startup = announced  # type: ignore[method-assign]
    thread.start()
    try:
        assert started.wait(DEADLINE_S), "the server does not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield stage, f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the server does not end"
