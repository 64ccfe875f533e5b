"""/v1/completions: text as it goes on, without a chat template."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from nova.api.ask import choices, served
from nova.api.errors import invalid
from nova.api.events import STREAMED, EventStream
from nova.api.gate import Gate
from nova.api.openai.answers import REFUSALS, Completion
from nova.api.openai.choice import FINISH
from nova.api.openai.fields import MAX_CHOICES, Sampled, TokenIds
from nova.api.openai.frame import DONE, Frame, usage
from nova.api.openai.logprobs import TokenTexts, completion
from nova.coordinator.port import Port
from nova.wire.requests import Completed, Generate, Piece

Texts = Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_CHOICES)]
Tokens = Annotated[list[TokenIds], Field(fail_fast=True, min_length=1, max_length=MAX_CHOICES)]


class CompletionBody(Sampled):
    prompt: str | Texts | TokenIds | Tokens
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    def refuse_the_rest(self) -> None:
        """Raises ApiError for what OpenAI's API knows and this one does not do."""
        if self.echo:
            raise invalid("echo is not done here: put the prompt before the text yourself", "echo")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise invalid("best_of is not done here: ask for n choices and choose", "best_of")
        if self.suffix:
            raise invalid("suffix is not done here: write it into the prompt as the model expects it", "suffix")


def router(port: Port, gate: Gate) -> APIRouter:
    router = APIRouter(tags=["openai"], responses=REFUSALS)
    texts = TokenTexts(port)

    @router.post("/v1/completions", response_model=Completion, responses=STREAMED)
    async def completions(body: CompletionBody) -> Response:
        """The text after each prompt, up to `max_tokens` (deployment.max_tokens if left out)."""
        model = served(port, body.model)
        body.refuse_the_rest()
        prompts = await as_tokens(port, body.prompt)
        if len(prompts) * (body.n or 1) > MAX_CHOICES:
            raise invalid(f"more than {MAX_CHOICES} choices: fewer prompts, or a smaller n", "n")
        logprobs = -1 if body.logprobs is None else body.logprobs
        groups = [body.asks(model, gate, prompt, limit=body.max_tokens, logprobs=logprobs) for prompt in prompts]
        asks = [ask for group in groups for ask in group]
        found = [_Choice(index, texts) for index in range(len(asks))]
        frame = Frame(f"cmpl-{asks[0].request}", int(time.time()), model.name)
        if body.stream:
            return EventStream(_stream(port, asks, found, frame, len(prompts), body.usage_streamed))
        async with aclosing(choices(port, asks)) as events:
            async for index, event in events:
                await found[index].take(event)
        account = _account(found, len(prompts))
        return JSONResponse(frame.document("text_completion", [one.whole() for one in found], usage=account))

    return router


async def as_tokens(port: Port, prompt: str | list[str] | list[int] | list[list[int]]) -> list[list[int]]:
    """Each prompt (or input) of a request in tokens."""
    each = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
    return [await port.encode(one) if isinstance(one, str) else one for one in each]


class _Choice:
    """One choice, whole or piece by piece."""

    def __init__(self, index: int, texts: TokenTexts) -> None:
        self._index = index
        self._texts = texts
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._told = 0
        self.completed: Completed  # once the text has ended

    async def take(self, event: object) -> dict[str, Any] | None:
        """The choice of the next chunk, None where there is nothing to say."""
        if isinstance(event, Piece):
            return await self._piece(event)
        if isinstance(event, Completed):
            self.completed = event
            return self._choice("", None, FINISH[event.finish])
        return None

    def whole(self) -> dict[str, Any]:
        logprobs: dict[str, Any] | None = None
        if self._logprobs:
            logprobs = {key: [item for part in self._logprobs for item in part[key]] for key in self._logprobs[0]}
        return self._choice("".join(self._pieces), logprobs, FINISH[self.completed.finish])

    async def _piece(self, piece: Piece) -> dict[str, Any] | None:
        logprobs = None
        if piece.logprobs:
            logprobs = await completion(self._texts, piece.logprobs, self._told)
            self._told += sum(len(token) for token in logprobs["tokens"])
            self._logprobs.append(logprobs)
        if not piece.text and not logprobs:
            return None
        self._pieces.append(piece.text)
        return self._choice(piece.text, logprobs, None)

    def _choice(self, text: str, logprobs: dict[str, Any] | None, finish: str | None) -> dict[str, Any]:
        return {"index": self._index, "text": text, "logprobs": logprobs, "finish_reason": finish}


def _account(found: Sequence[_Choice], prompts: int) -> dict[str, Any]:
    each = len(found) // prompts
    ends = [one.completed for one in found]
    return usage([ends[start : start + each] for start in range(0, len(ends), each)])


async def _stream(
    port: Port, asks: Sequence[Generate], found: Sequence[_Choice], frame: Frame, prompts: int, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    none = {"usage": None} if with_usage else {}
    async with aclosing(choices(port, asks)) as events:
        async for index, event in events:
            choice = await found[index].take(event)
            if choice is not None:
                yield frame.event("text_completion", [choice], **none)
    if with_usage:
        yield frame.event("text_completion", [], usage=_account(found, prompts))
    yield DONE
