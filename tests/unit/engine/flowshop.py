"""A pipeline on paper: the scheduler over stages that take a given time for each chunk. No clock, no process.

It also keeps the caches that real stages would hold, as lists of tokens, and refuses what no stage could do: a row that
does not continue its caches, a fork of caches that are not there, a drop of what is still used, one chunk too many.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from zlib import crc32

import numpy as np

from nova.engine.scheduler import Chunk, Limits, Scheduler
from nova.plan.costs import Costs
from nova.wire.messages import Begin
from nova.wire.values import EngineKey
from nova.wire.work import Outcome, Sampling

Time = Callable[[int], float]
"""Seconds of a stage for a chunk of so many positions."""

LIMITS = Limits(prefill_chunk=2048, prefill_min=256, tbt_factor=2.0)


def begin(stream: int, prompt: list[int], max_tokens: int = 8, stop: Sequence[int] = (), pool: str = "") -> Begin:
    return Begin(EngineKey("main", 1, 1), stream, prompt, max_tokens, list(stop), Sampling(), pool=pool)


def answer(text: Sequence[int]) -> int:
    """The token that follows a text: it depends on all of it."""
    return crc32(np.array(text, np.int64).tobytes()) % 50


def text_alone(begin: Begin) -> tuple[list[int], str]:
    """What the request must give, and how it must end."""
    generated: list[int] = []
    while True:
        generated.append(answer([*begin.prompt, *generated]))
        if generated[-1] in begin.stop_tokens:
            return generated, "stop"
        if len(generated) == begin.max_tokens:
            return generated, "length"


@dataclass
class FlowShop:
    """`prefill` may differ from `decode`, which is also its default. Time starts at 0 and is in seconds.

    `told` has the outcomes of each stream and `when` their times; `busy` how long each stage computed.
    """

    decode: Sequence[Time]
    prefill: Sequence[Time] | None = None
    limits: Limits = LIMITS
    texts: bool = True
    now: float = 0.0
    caches: dict[int, list[int]] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    sent: list[Chunk] = field(default_factory=list)
    told: dict[int, list[Outcome]] = field(default_factory=dict)
    when: dict[int, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stages = len(self.decode)
        self.costs = Costs(self.stages)
        self.scheduler = Scheduler(self.stages, self.costs, self.limits)
        self.busy = [0.0] * self.stages
        self._free = [0.0] * self.stages
        self._flying: deque[tuple[float, Chunk, dict[int, int], list[float]]] = deque()
        self._arrivals: list[tuple[float, int, Begin]] = []
        self._order = count()
        self._pooled: dict[int, int] = {}

    def arrive(self, at: float, begin: Begin) -> None:
        heapq.heappush(self._arrivals, (at, next(self._order), begin))

    def begin(self, begin: Begin) -> None:
        self.scheduler.begin(begin)
        self.advance()

    def cancel(self, stream: int) -> bool:
        known = self.scheduler.cancel(stream)
        self.advance()
        return known

    def budget(self, tokens: int, trimmable: bool = True) -> None:
        self.scheduler.budget(tokens, trimmable)
        self.advance()

    def step(self) -> bool:
        """What comes next, an arrival or a landing. False when there is neither."""
        landing = self._flying[0][0] if self._flying else float("inf")
        if self._arrivals and self._arrivals[0][0] <= landing:
            self.now, _, begin = heapq.heappop(self._arrivals)
            self.begin(begin)
            return True
        if not self._flying:
            return False
        self.now, chunk, sampled, seconds = self._flying.popleft()
        for outcome in self.scheduler.landed(chunk, sampled, seconds):
            self.told.setdefault(outcome.stream, []).append(outcome)
            self.when.setdefault(outcome.stream, []).append(self.now)
        self.advance()
        return True

    def run(self, until: float = float("inf"), steps: int = 1_000_000) -> None:
        for _ in range(steps):
            if self.now >= until or not self.step():
                return
        raise AssertionError(f"{steps} steps were not enough: requests are stuck or starve")

    def advance(self) -> None:
        while (chunk := self.scheduler.next()) is not None:
            self._send(chunk)
            self._drop()
        self._drop()
        assert len(self._flying) == self.scheduler.under_way <= self.stages + 1

    def _drop(self) -> None:
        for stream in self.scheduler.dropped():
            assert stream in self.caches, f"{stream} was dropped twice or never started"
            del self.caches[stream]
            self.dropped.append(stream)

    def _send(self, chunk: Chunk) -> None:
        sampled = self._compute(chunk)
        self.sent.append(chunk)
        positions = len(chunk.rows) * len(chunk.rows[0].tokens)
        times = self.prefill if chunk.prefill and self.prefill is not None else self.decode
        seconds = [time(positions) for time in times]
        at = self.now
        for stage, each in enumerate(seconds):
            at = self._free[stage] = max(at, self._free[stage]) + each
            self.busy[stage] += each
        self._flying.append((at, chunk, sampled, seconds))

    def _compute(self, chunk: Chunk) -> dict[int, int]:
        """What the stages do with it. As chunks keep their order, it can be done when it is sent."""
        streams = [row.stream for row in chunk.rows]
        assert len(set(streams)) == len(streams), "a request has one row in a chunk"
        assert (chunk.group == 0) == chunk.prefill
        assert len(streams) == 1 or not chunk.prefill
        under_way = {row.stream for _, other, _, _ in self._flying if not other.prefill for row in other.rows}
        assert chunk.prefill or not under_way & set(streams), "a token is born before the next one goes round"
        assert chunk.prefill or chunk.group not in {other.group for _, other, _, _ in self._flying}
        for row in chunk.rows:
            assert len(row.tokens) == len(chunk.rows[0].tokens) > 0
            if row.first:
                assert row.stream not in self.caches
                source = self.caches[row.source] if row.source else []
                assert len(source) >= row.position, "a fork of positions that are not there"
                self.caches[row.stream] = source[: row.position]
            cache = self.caches[row.stream]
            assert row.position == len(cache), "a row continues its caches"
            cache += row.tokens
        if chunk.prefill:
            return {}
        return {stream: answer(self.caches[stream]) if self.texts else 0 for stream in streams}
