"""A held transport is tried again beside the group that serves: formed, verified, and ended. Pure.

Its engines load no model, so they cost little; whoever is being served notices nothing. When the trial succeeds, the
deployment knows that a better transport works, and changes to it between requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nova.coordinator.diagnosis import MAX_REASON_CHARS
from nova.coordinator.generation import EngineRecord, Generation
from nova.transport.select import Candidate
from nova.wire import phases
from nova.wire.messages import EngineExited, EngineState, Gather, Gathered, Message, StartEngine, StopEngine
from nova.wire.values import EngineKey, EngineSpec

GROUP = "trial"

Outbox = list[tuple[str, Message]]


@dataclass(frozen=True)
class Verdict:
    """How a trial ended: `reason` is why it failed, "" when the transport works."""

    generation: Generation
    reason: str


@dataclass
class Trial:
    """At most one at a time. `limit_s` bounds the whole of it."""

    limit_s: float
    running: Generation | None = None
    _number: int = 0
    _until: float = 0.0

    def begin(
        self, candidate: Candidate, nodes: list[str], spec: Callable[[EngineRecord], EngineSpec], now: float
    ) -> Outbox:
        """Start one engine per node; `spec` makes what it is told to be."""
        self._number += 1
        self._until = now + self.limit_s
        keys = [EngineKey(GROUP, self._number, rank) for rank in range(len(nodes))]
        engines = {key.rank: EngineRecord(node, key, 0, 0) for node, key in zip(nodes, keys, strict=True)}
        self.running = Generation(self._number, candidate, engines, now)
        return [(each.node, StartEngine(each.key, spec(each))) for each in engines.values()]

    def gathered(self, node: str, gather: Gather) -> Outbox:
        if self.running is None or self.running.engine(node, gather.engine) is None:
            return []
        blobs = self.running.gathered(gather)
        if blobs is None:
            return []
        return [(each.node, Gathered(each.key, gather.round, blobs)) for each in self.running.engines.values()]

    def engine_state(self, node: str, state: EngineState, now: float) -> Verdict | None:
        """A verdict when every engine has formed and verified."""
        generation = self.running
        engine = generation.engine(node, state.engine) if generation is not None else None
        if generation is None or engine is None:
            return None
        generation.told(engine, state, now)
        return self._end("", now) if generation.ready else None

    def engine_exited(self, node: str, exited: EngineExited, now: float) -> Verdict | None:
        """An engine that ends before all are ready has failed, whatever it says."""
        generation = self.running
        engine = generation.engine(node, exited.engine) if generation is not None else None
        if engine is None:
            return None
        engine.ended = True
        return self._end(
            f"rank {exited.engine.rank} on {node}, phase {exited.phase}: {exited.reason[:MAX_REASON_CHARS]}",
            now,
            exited.phase,
        )

    def node_left(self, node: str, now: float) -> Verdict | None:
        gone = [each for each in self.running.engines.values() if each.node == node] if self.running is not None else []
        for engine in gone:
            engine.ended = True
        return self._end(f"node {node} is lost", now) if gone else None

    def abandon(self, now: float) -> Verdict | None:
        """End what runs; it proves nothing."""
        return self._end("abandoned", now) if self.running is not None else None

    def tick(self, now: float) -> Verdict | None:
        if self.running is None or now < self._until:
            return None
        slowest = min(self.running.engines.values(), key=lambda each: _order(each.phase))
        late = f"rank {slowest.key.rank} on {slowest.node} is in phase {slowest.phase}"
        return self._end(f"not formed within {self.limit_s:g} s: {late}", now, slowest.phase)

    def stop(self, generation: Generation) -> Outbox:
        """Ends what is left of a trial's engines; those that are ready wait for this."""
        reason = "the trial is over"
        return [(each.node, StopEngine(each.key, reason)) for each in generation.engines.values() if not each.ended]

    def _end(self, reason: str, now: float, phase: str = "") -> Verdict:
        assert self.running is not None
        generation, self.running = self.running, None
        generation.end("failed" if reason else "ended", now, phase, reason)
        return Verdict(generation, reason)


def _order(phase: str) -> int:
    return phases.ORDER.index(phase) if phase in phases.ORDER else -1
