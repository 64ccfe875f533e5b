"""One attempt at a group: its engines, their meetings, and when each phase of it was over.

It only keeps account. What to do when something happens is the deployment's to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from nova.transport.select import Candidate, is_sane
from nova.wire import phases
from nova.wire.messages import EngineState, Gather
from nova.wire.values import AttemptReport, EngineKey, KvCost, LinkMeasure, LinkReport, PhaseTime

GROUP = "main"
NO_TRANSPORT = "none"
"""What a group of one engine runs over."""

ALONE = Candidate(NO_TRANSPORT, {}, 0.0, False)


@dataclass
class EngineRecord:
    """What the coordinator knows about one engine."""

    node: str
    key: EngineKey
    first_layer: int
    layers: int
    phase: str = "asked"
    pid: int = 0
    detail: str = ""
    log_tail: list[str] = field(default_factory=list)
    weight_bytes: int = 0
    memory_bytes: int = 0
    kv: KvCost | None = None
    ended: bool = False


@dataclass
class Generation:
    """`outcome` is forming, serving, failed or ended; `phase` and `cause` say where it failed, and why."""

    number: int
    candidate: Candidate
    engines: dict[int, EngineRecord]
    started: float
    outcome: str = "forming"
    phase: str = ""
    cause: str = ""
    links: dict[int, LinkMeasure] = field(default_factory=dict)
    """What each rank measured to its right neighbour."""
    _ended: float | None = None
    _entered: dict[int, dict[str, float]] = field(default_factory=dict)
    _gathers: dict[int, dict[int, bytes]] = field(default_factory=dict)

    @property
    def transport(self) -> str:
        return self.candidate.name

    @property
    def is_trial(self) -> bool:
        return any(each.key.group != GROUP for each in self.engines.values())

    @property
    def over(self) -> str:
        """The transport, and its side channel, for people."""
        side = self.candidate.side
        return f"{self.candidate.name} beside {side.name}" if side is not None else self.candidate.name

    @property
    def progress(self) -> str:
        """How far it is, for people."""
        phases_now = ", ".join(f"{each.node}: {each.phase}" for each in self.engines.values())
        return f"generation {self.number} is being formed over {self.over} ({phases_now})"

    @property
    def ready(self) -> bool:
        return all(each.phase == phases.READY and not each.ended for each in self.engines.values())

    def engine(self, node: str, key: EngineKey) -> EngineRecord | None:
        """The record, unless the message is from a stranger or from an old generation."""
        engine = self.engines.get(key.rank)
        return engine if engine is not None and engine.key == key and engine.node == node else None

    def told(self, engine: EngineRecord, state: EngineState, now: float) -> None:
        """An engine says where it is."""
        engine.phase, engine.detail = state.phase, state.detail
        engine.pid = state.pid or engine.pid
        engine.weight_bytes = state.weight_bytes or engine.weight_bytes
        engine.memory_bytes = state.memory_bytes or engine.memory_bytes
        engine.kv = state.kv or engine.kv
        for link in state.links[:1]:
            if link.peer == (engine.key.rank + 1) % len(self.engines) and is_sane(link):
                self.links[engine.key.rank] = link
        if state.phase in phases.ORDER and self._ended is None:
            # Once: an engine that loads says again and again how far it is.
            self._entered.setdefault(engine.key.rank, {}).setdefault(state.phase, now)

    def gathered(self, gather: Gather) -> list[bytes] | None:
        """One rank's blob; all of them, by rank, in the moment the last one is in."""
        rank = gather.engine.rank
        for blobs in self._gathers.values():  # a rank waits in one round at a time
            blobs.pop(rank, None)
        self._gathers = {number: blobs for number, blobs in self._gathers.items() if blobs}
        blobs = self._gathers.setdefault(gather.round, {})
        blobs[rank] = gather.blob
        if len(blobs) < len(self.engines):
            return None
        del self._gathers[gather.round]
        return [blobs[rank] for rank in sorted(blobs)]

    @property
    def awaited(self) -> list[str]:
        """The nodes whose ranks have not come to a meeting where others are."""
        ranks = {rank for blobs in self._gathers.values() for rank in self.engines if rank not in blobs}
        return [self.engines[rank].node for rank in sorted(ranks)]

    def end(self, outcome: str, now: float, phase: str = "", cause: str = "") -> None:
        """Nothing that comes later changes the account."""
        if self._ended is None:
            self.outcome, self.phase, self.cause, self._ended = outcome, phase, cause, now

    def report(self, now: float, recent: dict[int, float]) -> AttemptReport:
        """`recent` is the median one-way time of late, by the rank that sends."""
        end = self._ended if self._ended is not None else now
        return AttemptReport(
            self.number, self.candidate.name, self.candidate.side.name if self.candidate.side else "",
            now - self.started, end - self.started, self.outcome, self.phase, self.cause,
            self._phase_times(end), self._links(recent), self.is_trial,
        )  # fmt: skip

    def _phase_times(self, end: float) -> list[PhaseTime]:
        """The attempt is in the phase of its slowest engine; the last phase lasts until the end, or until all are
        ready."""
        times = [("start", self.started)]
        for index, phase in enumerate(phases.ORDER):
            reached = [self._reached(rank, phases.ORDER[index:]) for rank in self.engines]
            if any(phase in each for each in self._entered.values()):
                times.append((phase, max(reached)))
        times = [(phase, at) for phase, at in times if at < inf]
        if times[-1][0] == phases.READY:
            end = times.pop()[1]
        ends = [at for _, at in times[1:]] + [end]
        return [PhaseTime(phase, until - at) for (phase, at), until in zip(times, ends, strict=True)]

    def _reached(self, rank: int, later: Sequence[str]) -> float:
        """When this engine entered the first of these phases that it has entered; infinity if none."""
        return min((at for phase, at in self._entered.get(rank, {}).items() if phase in later), default=inf)

    def _links(self, recent: dict[int, float]) -> list[LinkReport]:
        nodes: Sequence[str] = [self.engines[rank].node for rank in sorted(self.engines)]
        return [
            LinkReport(nodes[rank], nodes[link.peer], link.latency_s, link.bandwidth_bytes_s, recent.get(rank, 0.0))
            for rank, link in sorted(self.links.items())
        ]
