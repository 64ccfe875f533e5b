"""A pipeline on paper: the scheduler over stages that take a given time for each chunk. No clock, no process.

It also keeps the caches that real stages would hold, as lists of tokens, and refuses what no stage could do: a row that
does not continue its caches, a fork of caches that are not there, a drop of what is still used, one chunk too many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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

    `told` has the outcomes of each stream and `when` their times. Without `texts` all tokens are 0.
    """

    decode: Sequence[Time]
    prefill: Sequence[Time] | None = None
    limits: Limits = LIMITS
    texts: bool = True
    now: float = 0.0
    kept_at_most: int = 0
    trimmable: bool = False
    caches: dict[int, list[int]] = field(default_factory=dict)
    sent: list[Chunk] = field(default_factory=list)
    told: dict[int, list[Outcome]] = field(default_factory=dict)
    when: dict[int, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stages = len(self.decode)
        self.costs = Costs(self.stages)
        self.scheduler = Scheduler(self.stages, self.costs, self.limits)
        self._free = [0.0] * self.stages
        self._flying: deque[tuple[float, Chunk, dict[int, int], list[float]]] = deque()

    def begin(self, begin: Begin) -> None:
        self.scheduler.begin(begin)
        self.advance()

    def cancel(self, stream: int) -> bool:
        known = self.scheduler.cancel(stream)
        self.advance()
        return known

    def budget(self, tokens: int, trimmable: bool = True) -> None:
        self.kept_at_most, self.trimmable = tokens, trimmable
        self.scheduler.budget(tokens, trimmable)
        self.advance()

    def step(self) -> bool:
        """The oldest chunk lands. False when none is under way."""
        if not self._flying:
            return False
        self.now, chunk, sampled, seconds = self._flying.popleft()
        for outcome in self.scheduler.landed(chunk, sampled, seconds):
            self.told.setdefault(outcome.stream, []).append(outcome)
            self.when.setdefault(outcome.stream, []).append(self.now)
        self.advance()
        return True

    def run(self, until: Callable[[], bool] = lambda: False, steps: int = 30_000) -> None:
        """Until `until`, or nothing is under way."""
        for _ in range(steps):
            if until() or not self.step():
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

    def _send(self, chunk: Chunk) -> None:
        sampled = self._compute(chunk)
        self.sent.append(chunk)
        positions = len(chunk.rows) * len(chunk.rows[0].tokens)
        times = self.prefill if chunk.prefill and self.prefill is not None else self.decode
        seconds = [time(positions) for time in times]
        at = self.now
        for stage, each in enumerate(seconds):
            at = self._free[stage] = max(at, self._free[stage]) + each
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
                assert self.trimmable or len(source) == row.position, "a cut of caches that cannot be cut"
                self.caches[row.stream] = source[: row.position]
            cache = self.caches[row.stream]
            assert row.position == len(cache), "a row continues its caches"
            cache += row.tokens
        if chunk.prefill:
            return {}
        return {stream: answer(self.caches[stream]) if self.texts else 0 for stream in streams}
