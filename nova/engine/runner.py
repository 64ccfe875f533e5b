"""The chunk loop: the one thread of an engine that computes.

It takes chunks and control messages from one inbox. A chunk goes through this stage's layers and on to the next
rank; at the last stage a token is sampled, and the driver decides what goes round next.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import mlx.core as mx
import structlog
from mlx_lm.sample_utils import make_sampler

from nova.clock import Deadline
from nova.engine.caches import Caches
from nova.engine.driver import Driver, Plan
from nova.engine.link import Link, LinkFailed, Received
from nova.engine.schedule import Schedule, window
from nova.errors import EngineError, TransportFault
from nova.wire.messages import Begin, Cancel, Message, Step, StopEngine
from nova.wire.rows import RowHead
from nova.wire.tensor import Flags, Header, Kind, layout
from nova.wire.values import EngineKey, EngineSpec
from nova.wire.work import ChunkTiming, Outcome

log = structlog.get_logger(__name__)

ROUND_S = 3600.0
"""A chunk that has not come round the ring by then, for each stage, is lost. Above any `engine.step_s` in use: a stage
that computes for too long is its own daemon's to end, which can say so."""


class Stage(Protocol):
    """What the loop asks of a stage; `nova.model.stage.StageModel` and `EmulatedStage` are it."""

    def make_cache(self) -> Any: ...
    def embed(self, tokens: mx.array) -> mx.array: ...
    def run(self, hidden: mx.array, cache: Any) -> mx.array: ...
    def head(self, hidden: mx.array) -> mx.array: ...


class Line(Protocol):
    """What the loop asks of the line to the daemon; `ControlLine` is it."""

    inbox: queue.SimpleQueue[object]
    busy_since: float | None

    def send(self, message: Message) -> None: ...


@dataclass
class Sampling:
    """A request as the last stage sees it."""

    driver: Driver
    sampler: Callable[[mx.array], mx.array]
    sent_ns: dict[int, int]


class Runner:
    """One engine's loop. `link` is None where one engine is the whole pipeline."""

    def __init__(
        self,
        key: EngineKey,
        spec: EngineSpec,
        stage: Stage,
        link: Link | None,
        line: Line,
        round_s: float = ROUND_S,
    ) -> None:
        self._key = key
        self._spec = spec
        self._stage = stage
        self._link = link
        self._line = line
        self._is_last = key.rank == spec.size - 1
        self._round_s = round_s * spec.size
        self._round = Deadline.after(self._round_s)
        """Only while chunks are under way."""
        self._caches = Caches(stage.make_cache)
        self._requests: dict[int, Sampling] = {}
        self._schedule = Schedule(window(spec.size))

    def run(self) -> str:
        """Serve until told to stop; returns the reason given. Raises TransportError when the group breaks."""
        while True:
            match self._next():
                case Received() as chunk:
                    self._line.busy_since = time.monotonic()
                    self._chunk(chunk)
                    self._line.busy_since = None
                case Begin() as begin:
                    self._begin(begin)
                case Cancel(stream=stream):
                    self._cancel(stream)
                case StopEngine(reason=reason):
                    return reason
                case LinkFailed(error=error):
                    raise error
                case other:
                    raise EngineError(f"the engine got {type(other).__name__}, which is not for engines")

    def _next(self) -> object:
        """What comes next. Raises TransportFault when chunks are under way and none comes back."""
        waiting = self._schedule.under_way
        try:
            return self._line.inbox.get(timeout=self._round.remaining() if waiting else None)
        except queue.Empty:
            lost = f"{waiting} chunks are under way and none has come back for {self._round_s:g} s"
            raise TransportFault(f"{lost}: the transport {self._spec.transport} has lost one") from None

    # --- every stage ------------------------------------------------------------------------------------------------

    def _chunk(self, chunk: Received) -> None:
        header, started_ns = chunk.header, time.monotonic_ns()
        if header.flags & Flags.DROP:
            self._caches.drop(row.stream for row in header.rows)
            if not self._is_last:
                self._forward(header, mx.zeros((0,), mx.uint32))
            return
        hidden = self._stage.embed(chunk.array()) if header.kind is Kind.TOKENS else chunk.array()
        hidden = self._caches.run(header, hidden, self._stage.run)
        token = self._sample(header, hidden) if self._is_last else None
        if not self._is_last:
            mx.eval(hidden)
        computed_ns = time.monotonic_ns()
        header.add_hop(chunk.at_ns, (started_ns - chunk.at_ns) // 1000, (computed_ns - started_ns) // 1000)
        if self._is_last:
            self._release(chunk)
            self._landed(header, token)
        else:
            self._forward(header, hidden, chunk)

    def _forward(self, header: Header, tensor: mx.array, made_of: Received | None = None) -> None:
        dtype = str(tensor.dtype).rpartition(".")[2]
        self._emit(header.onward(Kind.HIDDEN, dtype, tuple(tensor.shape)), tensor, made_of)

    def _emit(self, header: Header, tensor: mx.array, made_of: Received | None = None) -> None:
        if self._link is not None:
            self._link.send(header, tensor, made_of)
        else:
            self._line.inbox.put(Received(header, tensor.reshape(-1).view(mx.uint8), time.monotonic_ns()))

    def _release(self, chunk: Received) -> None:
        if self._link is not None:
            self._link.release(chunk)

    # --- the last stage ---------------------------------------------------------------------------------------------

    def _sample(self, header: Header, hidden: mx.array) -> int | None:
        """The next token after the chunk, or None for prefill, whose only fruit is the cache."""
        (row,) = header.rows
        request = self._requests.get(row.stream)
        if header.flags & Flags.PREFILL or request is None:
            mx.eval(self._caches.states())
            return None
        logits = self._stage.head(hidden)[:, -1, :]
        sampling = request.driver.begin.sampling
        if sampling.temperature:
            # Keyed by position: the same seed gives the same text however the work was cut into chunks.
            mx.random.seed((sampling.seed * 0x9E3779B97F4A7C15 + row.position + header.width) % 2**64)
        return cast("int", request.sampler(logits - mx.logsumexp(logits, keepdims=True)).item())

    def _landed(self, header: Header, token: int | None) -> None:
        self._schedule.landed()
        self._round = Deadline.after(self._round_s)
        (row,) = header.rows
        request = self._requests.get(row.stream)
        if request is None:  # cancelled while this chunk was under way
            self._advance()
            return
        driver = request.driver
        if token is not None:
            driver.sampled(token)
        timing = ChunkTiming(
            [(row.stream, row.position)], header.width, token is None, request.sent_ns.pop(row.position, 0),
            time.monotonic_ns(),
            [(hop.received_ns, hop.waited_us, hop.compute_us) for hop in header.hops], header.nbytes,
        )  # fmt: skip
        if driver.finish:
            self._end(row.stream)
        self._advance()  # the next chunk first: the report can wait, the pipeline cannot
        tokens = [] if token is None else [token]
        outcomes = [Outcome(row.stream, tokens, driver.finish)] if tokens or driver.finish else []
        self._line.send(Step(self._key, outcomes, timing))

    def _begin(self, begin: Begin) -> None:
        sampling = begin.sampling
        sampler = make_sampler(sampling.temperature, top_p=sampling.top_p if sampling.top_p < 1.0 else 0.0)
        driver = Driver(begin, self._spec.prefill_chunk)
        self._requests[begin.stream] = Sampling(driver, sampler, {})
        self._schedule.add(begin.stream, driver)
        self._advance()

    def _cancel(self, stream: int) -> None:
        request = self._requests.get(stream)
        if request is None:
            return
        request.driver.cancel()
        self._end(stream)
        self._line.send(Step(self._key, [Outcome(stream, [], request.driver.finish)]))

    def _advance(self) -> None:
        """Send what the schedule wants sent."""
        if not self._schedule.under_way:
            self._round = Deadline.after(self._round_s)
        while (turn := self._schedule.next()) is not None:
            stream, plan = turn
            self._requests[stream].sent_ns[plan.position] = time.monotonic_ns()
            self._emit(_tokens_header(stream, plan), mx.array([plan.tokens], mx.uint32))

    def _end(self, stream: int) -> None:
        """The request is over: behind its last chunk, tell every stage to drop its cache."""
        del self._requests[stream]
        self._schedule.remove(stream)
        self._emit(_tokens_header(stream, Plan(0, [], Flags.DROP)), mx.zeros((0,), mx.uint32))


def _tokens_header(stream: int, plan: Plan) -> Header:
    width = len(plan.tokens)
    shape = (1, width) if width else (0,)
    first = plan.position == 0 and not plan.flags & Flags.DROP
    rows = (RowHead(stream, plan.position, first=first),)
    return Header(layout(Kind.TOKENS, plan.flags, width, "uint32", shape), rows)
