"""The chunk loop: the one thread of an engine that computes.

It takes chunks and control messages from one inbox. A chunk goes through this stage's layers and on to the next rank;
at the last stage it comes to its end, and `lead` says what goes round next.
"""

from __future__ import annotations

import queue
import time
from typing import Any, Protocol

import mlx.core as mx

from nova.clock import Deadline
from nova.engine.caches import Caches
from nova.engine.grammar import Grammars
from nova.engine.lead import NOTHING, Compiled, Lead
from nova.engine.link import Link, LinkFailed, Received
from nova.errors import EngineError, TransportFault
from nova.wire.messages import Begin, Budget, Cancel, Message, StopEngine
from nova.wire.tensor import Flags, Header, Kind
from nova.wire.values import EngineKey, EngineSpec

ROUND_S = 3600.0
"""A chunk that has not come round the ring by then, for each stage, is lost. Above any `engine.step_s` in use: a stage
that computes for too long is its own daemon's to end, which can say so."""


class Stage(Protocol):
    """What the loop asks of a stage; `nova.model.stage.StageModel` and `EmulatedStage` are it."""

    def make_cache(self) -> Any: ...
    def embed(self, tokens: mx.array) -> mx.array: ...
    def run(self, hidden: mx.array, cache: Any) -> mx.array: ...
    def norm(self, hidden: mx.array) -> mx.array: ...
    def head(self, hidden: mx.array) -> mx.array: ...


class Line(Protocol):
    """What the loop asks of the line to the daemon; `ControlLine` is it."""

    inbox: queue.SimpleQueue[object]
    busy_since: float | None

    def send(self, message: Message) -> None: ...


class Runner:
    """One engine's loop. `link` is None where one engine is the whole pipeline."""

    def __init__(
        self,
        key: EngineKey,
        spec: EngineSpec,
        stage: Stage,
        link: Link | None,
        line: Line,
        grammars: Grammars,
        round_s: float = ROUND_S,
    ) -> None:
        self._spec = spec
        self._stage = stage
        self._link = link
        self._line = line
        self._caches = Caches(stage.make_cache)
        is_last = key.rank == spec.size - 1
        self._lead = Lead(key, spec, stage, grammars, self._emit, line.send, line.inbox.put) if is_last else None
        self._round_s = round_s * spec.size
        self._round = Deadline.after(self._round_s)
        """Only while chunks are under way: when the oldest must have landed."""

    def run(self) -> str:
        """Serve until told to stop; returns the reason given. Raises TransportError when the group breaks."""
        try:
            return self._serve()
        finally:
            if self._lead is not None:
                self._lead.close()

    def _serve(self) -> str:
        while True:
            match self._next():
                case Received() as chunk:
                    self._line.busy_since = time.monotonic()
                    self._chunk(chunk)
                    self._line.busy_since = None
                case StopEngine(reason=reason):
                    return reason
                case LinkFailed(error=error):
                    raise error
                case Begin() | Cancel() | Budget() | Compiled() as order if self._lead is not None:
                    self._order(self._lead, order)
                case other:
                    raise EngineError(f"the engine got {type(other).__name__}, which is not for it")

    def _next(self) -> object:
        """What comes next. Raises TransportFault when chunks are under way and none comes back."""
        waiting = self._lead.under_way if self._lead is not None else 0
        try:
            return self._line.inbox.get(timeout=self._round.remaining() if waiting else None)
        except queue.Empty:
            lost = f"{waiting} chunks are under way and none has come back for {self._round_s:g} s"
            raise TransportFault(f"{lost}: the transport {self._spec.transport} has lost one") from None

    def _order(self, lead: Lead, order: Begin | Cancel | Budget | Compiled) -> None:
        idle = not lead.under_way
        match order:
            case Begin():
                lead.begin(order)
            case Cancel():
                lead.cancel(order.stream)
            case Budget():
                lead.budget(order)
            case Compiled():
                lead.compiled(order)
        if idle:
            self._round = Deadline.after(self._round_s)

    def _chunk(self, chunk: Received) -> None:
        header, started_ns = chunk.header, time.monotonic_ns()
        if header.flags & Flags.DROP:
            self._caches.drop(row.stream for row in header.rows)
            if self._lead is None:
                self._emit(header, NOTHING)
            return
        hidden = self._stage.embed(chunk.array()) if header.kind is Kind.TOKENS else chunk.array()
        hidden = self._caches.run(header, hidden, self._stage.run)
        if self._lead is not None:
            sampled = self._lead.computed(header, hidden, self._caches.states)
            self._stamp(chunk, started_ns)
            self._release(chunk)
            self._round = Deadline.after(self._round_s)
            self._lead.landed(header, sampled)
        else:
            mx.eval(hidden)
            self._stamp(chunk, started_ns)
            dtype = str(hidden.dtype).rpartition(".")[2]
            self._emit(header.onward(Kind.HIDDEN, dtype, tuple(hidden.shape)), hidden, chunk)

    def _stamp(self, chunk: Received, started_ns: int) -> None:
        waited_us = (started_ns - chunk.at_ns) // 1000
        chunk.header.add_hop(chunk.at_ns, waited_us, (time.monotonic_ns() - started_ns) // 1000)

    def _emit(self, header: Header, tensor: mx.array, made_of: Received | None = None) -> None:
        if self._link is not None:
            self._link.send(header, tensor, made_of)
        else:
            self._line.inbox.put(Received(header, tensor.reshape(-1).view(mx.uint8), time.monotonic_ns()))

    def _release(self, chunk: Received) -> None:
        if self._link is not None:
            self._link.release(chunk)
