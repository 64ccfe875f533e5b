"""From an HTTP request to `Generate`, and its events back: what all APIs share."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from nova.api.errors import ApiError, refusal
from nova.coordinator.port import Event, ModelFacts, Port
from nova.wire.requests import Failed, Generate
from nova.wire.work import Sampling

_SEED_BITS = 63
_DEFAULTS: Mapping[str, float] = {"temperature": 1.0, "top_p": 1.0}
"""OpenAI's, where neither the request nor the model says."""


def served(port: Port, name: str | None = None) -> ModelFacts:
    """The model, if it is what a request names; no name is the served one. Raises ApiError: 503, 404."""
    model = port.model
    if model is None:
        raise ApiError(503, f"no model is served: {port.why_not}", code="unavailable")
    if name and name != model.name:
        message = f"the model {name!r} is not served here; this server has {model.name!r}"
        raise ApiError(404, message, code="model_not_found", param="model")
    return model


def seeds(seed: int | None, count: int) -> list[int]:
    """A seed per choice: the request's own (else a random one) first, those after it derived from it."""
    first = secrets.randbits(_SEED_BITS) if seed is None else seed % (1 << _SEED_BITS)
    return [first, *(_derived(first, index) for index in range(1, count))]


def sampling(model: ModelFacts, seed: int, given: Mapping[str, Any]) -> Sampling:
    """`given` are a request's fields by Sampling's names; None is not given: then the model's own, then OpenAI's."""
    said = {name: value for name, value in given.items() if value is not None}
    return Sampling(**{**_DEFAULTS, **model.sampling, **said, "seed": seed})


async def choices(port: Port, asks: Sequence[Generate]) -> AsyncGenerator[tuple[int, Event], None]:
    """The events of all `asks` as they come, each with its index. Closing it abandons what is not done.

    Raises ApiError for the first that fails, and abandons the others. Use it in `contextlib.aclosing`.
    """
    if len(asks) == 1:  # the same without tasks: this is run for every token of most requests
        async with aclosing(port.ask(asks[0])) as events:
            async for event in events:
                yield 0, _unless_failed(event)
        return
    streams = [port.ask(ask) for ask in asks]
    nexts = {asyncio.ensure_future(anext(stream)): index for index, stream in enumerate(streams)}
    try:
        while nexts:
            done, _ = await asyncio.wait(nexts, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                index = nexts.pop(one)
                try:
                    event = one.result()
                except StopAsyncIteration:
                    continue
                yield index, _unless_failed(event)
                nexts[asyncio.ensure_future(anext(streams[index]))] = index
    finally:
        for one in nexts:
            one.cancel()
        await asyncio.gather(*nexts, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


def _unless_failed(event: Event) -> Event:
    if isinstance(event, Failed):
        raise refusal(event)
    return event


def _derived(seed: int, index: int) -> int:
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)
