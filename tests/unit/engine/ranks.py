"""Ranks as threads of one process, over the memory transport."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from nova.engine.control import Transfers
from nova.engine.grammar import Grammars
from nova.engine.lanes import Lanes
from nova.engine.link import Limits, Link
from nova.engine.runner import Runner, Stage
from nova.transport.api import Seat
from nova.transport.memory import Hub, MemoryGroup
from nova.wire.messages import Begin, Cancel, Message, Step, StopEngine
from nova.wire.values import EngineKey, EngineSpec
from nova.wire.work import Outcome, Sampling

CAPACITY = 1 << 20
WAIT_S = 20.0
"""s; nothing here takes a second, so whatever takes this long hangs."""

R = TypeVar("R")

Heard = dict[int, list[Step]]
"""What concerned each stream."""


def seat(rank: int, size: int, generation: int = 1, ticket: bytes = b"t" * 32) -> Seat:
    return Seat("main", generation, rank, size, ticket)


def groups(size: int) -> list[MemoryGroup]:
    hub = Hub()
    return [MemoryGroup(hub, seat(rank, size), CAPACITY) for rank in range(size)]


def at_once(jobs: Sequence[Callable[[], R]]) -> list[R]:
    """Every job in a thread of its own; their results in order."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(job) for job in jobs]
        return [future.result(WAIT_S) for future in futures]


def spec(size: int, prefill_chunk: int = 4) -> EngineSpec:
    return EngineSpec("m", 0, 1, 4, size, "memory", {}, b"t" * 32, 5.0, 5.0, 5.0, 5.0, 5.0, prefill_chunk, 1 << 20)


class Said:
    """A line to a daemon that only listens."""

    def __init__(self, inbox: queue.SimpleQueue[object], said: queue.SimpleQueue[Message]) -> None:
        self.inbox = inbox
        self.busy_since: float | None = None
        self.send = said.put


@dataclass
class Pipeline:
    """Running engines without their processes. A stage is loaded in the thread that runs it: MLX wants that."""

    stages: Sequence[Callable[[], Stage]]
    prefill_chunk: int = 4
    said: queue.SimpleQueue[Message] = field(default_factory=queue.SimpleQueue)
    runners: dict[int, Runner] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = len(self.stages)
        self.inboxes: list[queue.SimpleQueue[object]] = [queue.SimpleQueue() for _ in range(size)]
        self._groups = groups(size) if size > 1 else []
        self._threads = [threading.Thread(target=self._rank, args=(rank,), daemon=True) for rank in range(size)]

    @contextmanager
    def running(self) -> Iterator[Pipeline]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
            for rank, inbox in enumerate(self.inboxes):
                inbox.put(StopEngine(self.key(rank), f"end {rank}"))
            for thread in self._threads:
                thread.join(WAIT_S)
        finally:
            for group in self._groups:
                group.abort()
        assert sorted(self.ends) == [f"end {rank}" for rank in range(len(self.stages))]

    def key(self, rank: int) -> EngineKey:
        return EngineKey("main", 1, rank)

    @property
    def driver(self) -> queue.SimpleQueue[object]:
        return self.inboxes[-1]

    def begin(
        self,
        stream: int,
        prompt: list[int],
        max_tokens: int = 8,
        stop: Sequence[int] = (),
        sampling: Sampling | None = None,
    ) -> None:
        key = self.key(len(self.stages) - 1)
        self.driver.put(Begin(key, stream, prompt, max_tokens, list(stop), sampling or Sampling()))

    def cancel(self, stream: int) -> None:
        self.driver.put(Cancel(self.key(len(self.stages) - 1), stream))

    def next(self) -> Step:
        message = self.said.get(timeout=WAIT_S)
        assert isinstance(message, Step)
        return message

    def finish(self, *streams: int, heard: Heard | None = None, until: int = 0) -> Heard:
        """All that the driver says, after what was `heard` already, until `until` of these streams have ended, or all
        of them."""
        heard = heard or {stream: [] for stream in streams}
        while sum(bool(ended(steps, stream)) for stream, steps in heard.items()) < (until or len(heard)):
            step = self.next()
            rows = step.timing.rows if step.timing is not None else []
            for stream in {outcome.stream for outcome in step.outcomes} | {stream for stream, _ in rows}:
                if stream in heard:
                    heard[stream].append(step)
        return heard

    def text(
        self, prompt: list[int], stream: int = 1, max_tokens: int = 8, sampling: Sampling | None = None
    ) -> list[int]:
        """The tokens of one request, from its beginning to its end."""
        self.begin(stream, prompt, max_tokens, sampling=sampling)
        return tokens(self.finish(stream)[stream], stream)

    def _rank(self, rank: int) -> None:
        stage, inbox, link = self.stages[rank](), self.inboxes[rank], None
        if self._groups:
            link = Link(Lanes(self._groups[rank]), inbox, Transfers(), Limits(5.0, 1 << 20, 1))
            link.start()
        described = spec(len(self.stages), self.prefill_chunk)
        self.runners[rank] = Runner(self.key(rank), described, stage, link, Said(inbox, self.said), Grammars(None))
        self.ends.append(self.runners[rank].run())


def outcomes(steps: Sequence[Step], stream: int) -> list[Outcome]:
    return [outcome for step in steps for outcome in step.outcomes if outcome.stream == stream]


def tokens(steps: Sequence[Step], stream: int = 1) -> list[int]:
    return [token for outcome in outcomes(steps, stream) for token in outcome.tokens]


def ended(steps: Sequence[Step], stream: int = 1) -> str:
    """How a request ended, "" if it goes on."""
    return "".join(outcome.finish for outcome in outcomes(steps, stream))
