"""The closed loop of the serving benches, over a client that makes tokens of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import pytest
from benches.streams import Streams, decoding

from nova.control.client import Client
from nova.errors import GenerationError
from nova.wire.requests import Accepted, Generate, Piece

LIMIT_S = 10.0
PACE_S = 0.001


class Fake:
    """`tokens` for each request, then an end, or an error where `fails`; `left` are those whose reader has gone."""

    def __init__(self, tokens: int = 1 << 30, fails: bool = False) -> None:
        self._tokens = tokens
        self._fails = fails
        self.left: list[str] = []

    async def generate(self, ask: Generate) -> AsyncGenerator[Accepted | Piece]:
        assert ask.ignore_eos
        try:
            yield Accepted(ask.request, len(ask.prompt))
            for _ in range(min(self._tokens, ask.max_tokens)):
                yield Piece(ask.request, [1, 2], "ab")
                await asyncio.sleep(PACE_S)
            if self._fails:
                raise GenerationError("the engine died")
        finally:
            self.left.append(ask.request)


def connected(fake: Fake) -> Client:
    return cast("Client", fake)


def test_streams_go_on_together_and_are_left_at_the_end() -> None:
    async def scene() -> None:
        fake = Fake()
        async with asyncio.timeout(LIMIT_S), decoding(connected(fake), ["a", "b", "c"]) as loop:
            await loop.each(10)
            assert min(map(len, loop.arrivals)) >= 10
            window = await loop.watch(0.05)
            assert window[1] - window[0] >= 50_000_000
            assert loop.rate(window) > 0
            assert len(loop.gaps(window, [0])) < len(loop.gaps(window))
            assert fake.left == []
        assert sorted(fake.left) == sorted(loop.requests)

    asyncio.run(scene())


def test_what_ended_a_stream_is_said_and_not_waited_for() -> None:
    async def scene() -> None:
        with pytest.raises(GenerationError, match="the engine died"):
            async with asyncio.timeout(LIMIT_S), decoding(connected(Fake(3, fails=True)), ["a", "b"]) as loop:
                await loop.each(1000)

    asyncio.run(scene())


def test_a_stream_that_ends_too_early_is_an_error_and_so_is_one_that_brings_nothing() -> None:
    async def scene() -> None:
        async with asyncio.timeout(LIMIT_S):
            loop = Streams(connected(Fake(2)))
            loop.add("a")
            with pytest.raises(RuntimeError, match="ended after 4 tokens"):
                await loop.each(100)
            await loop.end()
            loop = Streams(connected(Fake()))
            loop.add("a")
            with pytest.raises(RuntimeError, match="not every stream had"):
                await loop.each(1 << 30, limit_s=0.05)
            await loop.end()

    asyncio.run(scene())
