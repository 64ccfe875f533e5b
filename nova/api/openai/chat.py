"""/v1/chat/completions."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from nova.api.answer import opened
from nova.api.ask import choices, served
from nova.api.events import STREAMED, EventStream
from nova.api.gate import Gate
from nova.api.openai.answers import REFUSALS, ChatCompletion
from nova.api.openai.chat_body import ChatBody
from nova.api.openai.choice import Choice, Delta
from nova.api.openai.frame import DONE, Frame, usage
from nova.api.openai.logprobs import TokenTexts
from nova.coordinator.port import Port
from nova.wire.requests import Accepted, Completed, Generate, Piece


def router(port: Port, gate: Gate) -> APIRouter:
    router = APIRouter(tags=["openai"], responses=REFUSALS)
    texts = TokenTexts(port)

    @router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAMED)
    async def chat(body: ChatBody) -> Response:
        """The next message of a conversation; with `stream`, server-sent events of chat.completion.chunk."""
        model = served(port, body.model)
        alternatives, constraint = body.alternatives, await body.constraint()
        prompt, grammar, read = await opened(port, model.dialect, body.chat(), constraint, forced=body.must_call)
        asks = body.asks(model, gate, prompt.tokens, limit=body.limit, logprobs=alternatives, grammar=grammar)
        found = [Choice(index, read(), texts) for index in range(len(asks))]
        frame = Frame(f"chatcmpl-{asks[0].request}", int(time.time()), model.name)
        if body.stream:
            return EventStream(_stream(port, asks, found, frame, body.usage_streamed))
        return JSONResponse(await _whole(port, asks, found, frame))

    return router


async def _whole(port: Port, asks: Sequence[Generate], found: Sequence[Choice], frame: Frame) -> dict[str, Any]:
    async with aclosing(choices(port, asks)) as events:
        async for index, event in events:
            if isinstance(event, Piece):
                found[index].keep(await found[index].piece(event))
            elif isinstance(event, Completed):
                found[index].keep(found[index].end(event))
    return frame.document(
        "chat.completion", [choice.whole() for choice in found], usage=usage([[choice.completed for choice in found]])
    )


async def _stream(
    port: Port, asks: Sequence[Generate], found: Sequence[Choice], frame: Frame, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    none = {"usage": None} if with_usage else {}

    def chunk(index: int, delta: Delta) -> bytes:
        return frame.event("chat.completion.chunk", [delta.chunk(index)], **none)

    async with aclosing(choices(port, asks)) as events:
        async for index, event in events:
            if isinstance(event, Accepted):
                yield chunk(index, Delta({"role": "assistant", "content": ""}))
            elif isinstance(event, Piece):
                for delta in await found[index].piece(event):
                    yield chunk(index, delta)
            elif isinstance(event, Completed):
                for delta in found[index].end(event):
                    yield chunk(index, delta)
    if with_usage:
        yield frame.event("chat.completion.chunk", [], usage=usage([[choice.completed for choice in found]]))
    yield DONE
