"""Requests that decode all at once, for as long as one looks: the closed loop of the serving benches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from benches.bounds import gaps, rate
from nova.clock import Deadline
from nova.control.client import Client
from nova.ids import new_request_id
from nova.wire.requests import Completed, Generate, Piece
from nova.wire.work import Sampling

ENDLESS = 4000
"""Tokens of a request that is to be left before its end; few enough for the memory of each to be reserved."""
LOOK_S = 0.01
DEADLINE_S = 600.0


class Streams:
    """`requests[i]` is a request's name, `arrivals[i]` when each of its tokens came, in monotonic nanoseconds."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: list[asyncio.Task[None]] = []
        self.requests: list[str] = []
        self.arrivals: list[list[int]] = []

    def add(self, prompt: str | list[int], tokens: int = ENDLESS) -> None:
        """Begin one more."""
        self.requests.append(new_request_id())
        self.arrivals.append([])
        ask = Generate(self.requests[-1], prompt, tokens, Sampling(), deadline_s=DEADLINE_S, ignore_eos=True)
        self._tasks.append(asyncio.create_task(self._follow(ask, self.arrivals[-1])))

    async def each(self, tokens: int, limit_s: float = DEADLINE_S) -> None:
        """Wait until every one has so many. Raises what ended one of them, or RuntimeError at the limit."""
        deadline = Deadline.after(limit_s)
        while min(map(len, self.arrivals)) < tokens:
            self._raise_ended(tokens)
            if deadline.expired:
                raise RuntimeError(f"not every stream had {tokens} tokens after {limit_s:g} s")
            await asyncio.sleep(LOOK_S)

    async def watch(self, seconds: float) -> tuple[int, int]:
        """Let them go on for so long. The two moments between which that was, in monotonic nanoseconds."""
        since = time.monotonic_ns()
        await asyncio.sleep(seconds)
        self._raise_ended(ENDLESS)
        return since, time.monotonic_ns()

    def rate(self, window: tuple[int, int]) -> float:
        """Tokens per second of all together."""
        return rate(self.arrivals, *window)

    def gaps(self, window: tuple[int, int], streams: Sequence[int] | None = None) -> list[float]:
        """Seconds between tokens."""
        return gaps([self.arrivals[index] for index in streams or range(len(self.arrivals))], *window)

    async def end(self) -> None:
        """Leave them all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _raise_ended(self, tokens: int) -> None:
        for task, arrivals in zip(self._tasks, self.arrivals, strict=True):
            if task.done():
                task.result()
                if len(arrivals) < tokens:
                    raise RuntimeError(f"a stream ended after {len(arrivals)} tokens")

    async def _follow(self, ask: Generate, arrivals: list[int]) -> None:
        async with aclosing(self._client.generate(ask)) as events:
            async for event in events:
                if isinstance(event, Piece):
                    arrivals.extend([time.monotonic_ns()] * len(event.tokens))


@asynccontextmanager
async def decoding(client: Client, prompts: Sequence[str | list[int]]) -> AsyncIterator[Streams]:
    """One stream for each prompt, left at the end."""
    streams = Streams(client)
    try:
        for prompt in prompts:
            streams.add(prompt)
        yield streams
    finally:
        await streams.end()


async def whole(client: Client, prompt: str | list[int], tokens: int) -> Completed:
    """One request from its prompt to its account."""
    ask = Generate(new_request_id(), prompt, tokens, Sampling(), deadline_s=DEADLINE_S, ignore_eos=True)
    async for event in client.generate(ask):
        if isinstance(event, Completed):
            return event
    raise RuntimeError("the generation ended without its account")
