"""/v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from nova.api import tools
from nova.api.answer import Reader, Told, answer, opened
from nova.api.anthropic.answers import REFUSALS, MessageDocument, TokenCount
from nova.api.anthropic.conversation import conversation, template_tool
from nova.api.anthropic.fields import Asked, Counted
from nova.api.anthropic.message import Message
from nova.api.ask import sampling, seeds, served
from nova.api.errors import ANTHROPIC, invalid
from nova.api.events import STREAMED, EventStream
from nova.api.gate import Gate
from nova.api.grammar import of_schema
from nova.coordinator.port import ModelFacts, Port, Prompt
from nova.ids import new_request_id
from nova.wire.requests import Generate


def router(port: Port, gate: Gate) -> APIRouter:
    router = APIRouter(tags=["anthropic"], responses=REFUSALS)

    @router.post(ANTHROPIC, response_model=MessageDocument, responses=STREAMED)
    async def create(body: Asked) -> Response:
        """The model's next message; with `stream`, server-sent events that build it up."""
        model = served(port, body.model)
        prompt, grammar, read = await _opened(port, model, body)
        limit = _limit(model, len(prompt.tokens), body.max_tokens)
        ask = _ask(gate, model, body, prompt, limit, grammar)
        message = Message(ask.request, model.name, body.shows_thinking, limited=limit == body.max_tokens)
        told = answer(port, ask, read())
        if body.stream:
            return EventStream(_stream(told, message))
        async with aclosing(told):
            async for one in told:
                message.tell(one)
        return JSONResponse(message.document)

    @router.post(f"{ANTHROPIC}/count_tokens", response_model=TokenCount)
    async def count_tokens(body: Counted) -> Response:
        """How many tokens a message's prompt has, template and tools included."""
        model = served(port, body.model)
        prompt = await port.encode_chat(conversation(body, model.dialect))
        return JSONResponse({"input_tokens": len(prompt.tokens)})

    return router


async def _opened(port: Port, model: ModelFacts, body: Asked) -> tuple[Prompt, str, Callable[[], Reader]]:
    call = await asyncio.to_thread(_forced_call, body)
    constraint = call or await asyncio.to_thread(_format, body)
    chat = conversation(body, model.dialect, bool(constraint))
    return await opened(port, model.dialect, chat, constraint, forced=bool(call))


def _limit(model: ModelFacts, prompt: int, wanted: int) -> int:
    """Clients ask for as many tokens as the largest models write: here they get what the context leaves. Where that is
    nothing the coordinator refuses, with both numbers."""
    room = model.context - prompt
    return min(wanted, room) if room > 0 else wanted


def _ask(gate: Gate, model: ModelFacts, body: Asked, prompt: Prompt, limit: int, grammar: str) -> Generate:
    given = {"temperature": body.temperature, "top_p": body.top_p, "top_k": body.top_k}
    how = sampling(model, seeds(None, 1)[0], given)
    stop = body.stop_sequences or []
    return Generate(new_request_id(), prompt.tokens, limit, how, deadline_s=gate.deadline_s, stop=stop, grammar=grammar)


def _forced_call(body: Asked) -> str:
    """The grammar of a call that must be made, "" where none must. Raises ApiError."""
    choice = body.tool_choice
    if choice is None or choice.type not in ("any", "tool"):
        return ""
    if choice.type == "tool" and not choice.name:
        raise invalid("tool_choice of type tool has a name", "tool_choice.name")
    offered = [template_tool(tool) for tool in body.tools or []]
    return tools.forced(offered, (choice.type == "tool" and choice.name) or "")


def _format(body: Asked) -> str:
    """The grammar that the answer is to have, "" for none. Raises ApiError."""
    wanted = body.output_config and body.output_config.format
    return of_schema(wanted.schema_, "output_config.format.schema") if wanted else ""


async def _stream(told: AsyncGenerator[Told, None], message: Message) -> AsyncGenerator[bytes, None]:
    async with aclosing(told):
        async for one in told:
            for event in message.tell(one):
                yield b"event: " + event["type"].encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
