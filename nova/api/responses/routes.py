"""/v1/responses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from fastapi.responses import Response as Answer

from nova.api import grammar, tools
from nova.api.answer import Told, answer, opened
from nova.api.ask import sampling, seeds, served
from nova.api.errors import ApiError, invalid
from nova.api.events import STREAMED, EventStream
from nova.api.gate import Gate
from nova.api.openai.answers import REFUSALS
from nova.api.responses.answers import Deleted, ResponseDocument
from nova.api.responses.conversation import messages, offered, with_answer, with_instructions
from nova.api.responses.fields import Create, NamedTool
from nova.api.responses.response import Response
from nova.api.responses.store import Store, Stored
from nova.coordinator.port import Chat, Port
from nova.ids import new_request_id
from nova.model.dialect import Dialect
from nova.wire.requests import Generate

Keep = Callable[[Response], None]


def router(port: Port, gate: Gate) -> APIRouter:
    router = APIRouter(tags=["openai"], responses=REFUSALS)
    store = Store()

    @router.post("/v1/responses", response_model=ResponseDocument, responses=STREAMED)
    async def create(body: Create, request: Request) -> Answer:
        """The model's next turn; with `stream`, server-sent events that build it up."""
        model = served(port, body.model)
        call, shape = await asyncio.to_thread(_forced_call, body), await asyncio.to_thread(_format, body)
        owner = request.state.owner
        told = messages(body.input, _before(store, owner, body))
        options = _options(body, model.dialect, bool(call or shape))
        chat = Chat(with_instructions(body.instructions, told), offered(body), options)
        prompt, constraint, read = await opened(port, model.dialect, chat, call or shape, forced=bool(call))
        how = sampling(model, seeds(None, 1)[0], {"temperature": body.temperature, "top_p": body.top_p})
        ask = Generate(
            new_request_id(), prompt.tokens, body.max_output_tokens or 0, how,
            deadline_s=gate.deadline_s, grammar=constraint,
        )  # fmt: skip

        def keep(done: Response) -> None:
            if body.store is not False:
                store.put(owner, done.id, Stored(done.document, with_answer(told, done.output)))

        response, parts = Response(ask.request, body, model.name, how, int(time.time())), answer(port, ask, read())
        if body.stream:
            return EventStream(_stream(parts, response, keep))
        async with aclosing(parts):
            async for part in parts:
                response.tell(part)
        keep(response)
        return JSONResponse(response.document)

    @router.get("/v1/responses/{response_id}", response_model=ResponseDocument)
    async def retrieve(response_id: str, request: Request) -> Answer:
        """A response that was made here with the same key and is still remembered."""
        stored = store.get(request.state.owner, response_id)
        if stored is None:
            raise _unknown(response_id)
        return JSONResponse(stored.document)

    @router.delete("/v1/responses/{response_id}", response_model=Deleted)
    async def delete(response_id: str, request: Request) -> Answer:
        if not store.drop(request.state.owner, response_id):
            raise _unknown(response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    return router


async def _stream(parts: AsyncGenerator[Told, None], response: Response, keep: Keep) -> AsyncGenerator[bytes, None]:
    begun = False
    try:
        async with aclosing(parts):
            async for part in parts:
                events = response.tell(part)
                if response.ended:
                    keep(response)
                for event in events:
                    begun = True
                    yield _event(event)
    except ApiError as error:
        if not begun:  # it can still be said with a status
            raise
        for event in response.fail(error):
            yield _event(event)


def _event(event: dict[str, Any]) -> bytes:
    kind: str = event["type"]
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _before(store: Store, owner: str, body: Create) -> list[dict[str, Any]]:
    """The conversation that the request goes on from. Raises ApiError."""
    name = body.previous_response_id
    if name is None:
        return []
    stored = store.get(owner, name)
    if stored is None:
        message = f"no response {name!r} is remembered here: send the whole conversation as input"
        raise invalid(message, "previous_response_id", "previous_response_not_found")
    return list(stored.messages)


def _unknown(name: str) -> ApiError:
    return ApiError(404, f"no response {name!r} is remembered here", code="not_found")


def _options(body: Create, dialect: Dialect, constrained: bool) -> dict[str, Any]:
    """For the chat template. A constrained answer starts at once, unless the template opens the reasoning anyway."""
    effort = body.reasoning and body.reasoning.effort
    options: dict[str, Any] = {"reasoning_effort": effort} if effort in ("low", "medium", "high") else {}
    if dialect.thought and (constrained or effort):
        options["enable_thinking"] = not constrained and effort not in ("none", "minimal")
    return options


def _forced_call(body: Create) -> str:
    """The grammar of a call that must be made, "" where none must. Raises ApiError."""
    if body.tool_choice == "required" or isinstance(body.tool_choice, NamedTool):
        return tools.forced(offered(body), body.tool_choice.name if isinstance(body.tool_choice, NamedTool) else "")
    return ""


def _format(body: Create) -> str:
    """The grammar that the answer is to have, "" for none. Raises ApiError."""
    wanted = body.text and body.text.format
    if not wanted or wanted.type == "text":
        return ""
    if wanted.type == "json_schema" and wanted.schema_ is None:
        raise invalid("a format of type json_schema has a schema", "text.format.schema")
    return grammar.of_schema(wanted.schema_ or {"type": "object"}, "text.format.schema")
