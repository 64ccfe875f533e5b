"""The life of one deployment: wait for its nodes, form a group, serve, and form it anew when something dies.

    waiting --all nodes are here--> forming --all engines ready--> serving
       ^                               |                              |
       '------- pause, engines ended --+------- something died -------'

A pure machine: it is fed with events and a clock reading, and gives messages to send to nodes. Every attempt is a
new generation with new engines, and every failure keeps its reason. Over several candidate transports it tries the
next one when an engine could not set up its link; after the last one it starts again from the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nova.config.schema import NodeConfig
from nova.coordinator.diagnosis import Diagnosis, Symptom, Weight, engine_exited, node_lost
from nova.errors import NoTransport, TransportError
from nova.plan.split import ranges
from nova.transport.select import Selection
from nova.wire import phases
from nova.wire.messages import EngineExited, EngineState, Gather, Gathered, Message, StartEngine, StopEngine
from nova.wire.values import EngineKey, EngineSpec, TransportOffer

GROUP = "main"
NO_TRANSPORT = "none"
"""What a group of one engine runs over."""

KEPT_REASONS = 20

ENDED_S = 2.0
"""What an engine's end, once it was killed, may take to be reported."""

MAX_DOUBLINGS = 32
"""A pause has reached its limit long before; without a bound its power of two would outgrow a float."""

Outbox = list[tuple[str, Message]]
"""Messages with the node that each is for."""

Select = Callable[[dict[str, Sequence[TransportOffer]], Sequence[str]], Selection]


@dataclass
class EngineRecord:
    """What the coordinator knows about one engine of the present generation."""

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
    ended: bool = False


@dataclass
class Deployment:
    """`split` is in the order of `nodes`, empty until the model is known, before which nothing is formed.
    `ticket` makes the secret of a generation.
    """

    config: NodeConfig
    nodes: list[str]
    split: list[int]
    select: Select
    ticket: Callable[[], bytes]
    state: str = "waiting"
    generation: int = 0
    transport: str = ""
    falls_back: bool = False
    """Failed, and the next transport is tried as soon as the old engines are gone."""
    rejected: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    engines: dict[int, EngineRecord] = field(default_factory=dict)
    _offers: dict[str, Sequence[TransportOffer]] = field(default_factory=dict)
    _gathers: dict[int, dict[int, bytes]] = field(default_factory=dict)
    _ranked: list[str] = field(default_factory=list)
    _tried: list[str] = field(default_factory=list)
    _failures: int = 0
    _retry_at: float = 0.0
    _given_up_at: float = 0.0
    _diagnosis: Diagnosis | None = None

    # --- events -----------------------------------------------------------------------------------------------------

    def node_joined(self, node: str, offers: Sequence[TransportOffer], now: float) -> Outbox:
        if node in self.nodes:
            self._offers[node] = offers
        return self.tick(now)

    def node_left(self, node: str, why: str, now: float) -> Outbox:
        if self._offers.pop(node, None) is not None:
            for engine in self.engines.values():
                engine.ended = engine.ended or engine.node == node
            if self._running:
                self._note(node_lost(node, why), now)
        return self.tick(now)

    def engine_state(self, node: str, state: EngineState, now: float) -> Outbox:
        engine = self._engine(node, state.engine)
        if engine is None:
            return []
        engine.phase, engine.detail = state.phase, state.detail
        engine.pid = state.pid or engine.pid
        engine.weight_bytes = state.weight_bytes or engine.weight_bytes
        engine.memory_bytes = state.memory_bytes or engine.memory_bytes
        ready = all(each.phase == phases.READY and not each.ended for each in self.engines.values())
        if self.state == "forming" and ready:
            self.state, self._failures, self._tried = "serving", 0, []
        return []

    def engine_exited(self, node: str, exited: EngineExited, now: float) -> Outbox:
        engine = self._engine(node, exited.engine)
        if engine is None:
            return []
        engine.ended, engine.log_tail = True, exited.log_tail
        if self._running:
            awaited = [each.node for each in self.engines.values() if self._lacks(each.key.rank)]
            self._note(engine_exited(node, exited, self.nodes, awaited), now)
        return self.tick(now)

    def gathered(self, node: str, gather: Gather, now: float) -> Outbox:
        """One rank's blob; the answer goes to all ranks in the moment the last one is in: that is the "go"."""
        if self._engine(node, gather.engine) is None or not self._running:
            return []
        blobs = self._gathers.setdefault(gather.round, {})
        blobs[gather.engine.rank] = gather.blob
        if len(blobs) < len(self.nodes):
            return []
        del self._gathers[gather.round]
        in_order = [blobs[rank] for rank in sorted(blobs)]
        return [(each.node, Gathered(each.key, gather.round, in_order)) for each in self.engines.values()]

    def tick(self, now: float) -> Outbox:
        """Whatever time brings: a diagnosis that is ripe, a pause that is over."""
        if self._running and self._diagnosis is not None and (cause := self._diagnosis.cause(now)) is not None:
            return self._fail(cause, now)
        wanted = self.state in ("waiting", "failed") and self.split and not self.missing
        gone = all(engine.ended for engine in self.engines.values()) or now >= self._given_up_at
        return self._form(now) if wanted and gone and now >= self._retry_at else []

    def stop(self) -> Outbox:
        """End the present generation for good."""
        out = self._stop_engines("the deployment ends")
        self.state, self._retry_at = "stopped", float("inf")
        return out

    # --- what others ask --------------------------------------------------------------------------------------------

    @property
    def missing(self) -> list[str]:
        return [node for node in self.nodes if node not in self._offers]

    @property
    def why_not(self) -> str:
        """Why it does not serve at this moment, for people."""
        if self.state == "failed":
            return self.reasons[-1]
        if self.missing:
            return f"waiting for {', '.join(self.missing)} to join"
        if self.state == "forming":
            phases_now = ", ".join(f"{each.node}: {each.phase}" for each in self.engines.values())
            return f"generation {self.generation} is being formed over {self.transport} ({phases_now})"
        return f"the deployment is {self.state}"

    @property
    def driver(self) -> EngineRecord:
        """The engine that samples. Only while serving."""
        return self.engines[len(self.nodes) - 1]

    @property
    def failing(self) -> bool:
        """Something died and its cause is not yet known; nothing new is to be begun."""
        return self._diagnosis is not None

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def _running(self) -> bool:
        return self.state in ("forming", "serving")

    def _engine(self, node: str, key: EngineKey) -> EngineRecord | None:
        """The record, unless the message is from a stranger or from an old generation."""
        engine = self.engines.get(key.rank)
        return engine if engine is not None and engine.key == key and engine.node == node else None

    def _lacks(self, rank: int) -> bool:
        """Whether an all-gather waits for this rank."""
        return any(rank not in blobs for blobs in self._gathers.values())

    def _note(self, symptom: Symptom, now: float) -> None:
        if self._diagnosis is None:
            # A lost node is known after dead_after_s of silence; a second more for what comes late.
            self._diagnosis = Diagnosis(self.config.control.dead_after_s + 1.0)
        self._diagnosis.add(symptom, now)

    def _form(self, now: float) -> Outbox:
        try:
            self.transport = self._choose()
        except TransportError as error:
            self.transport = ""
            self._give_reason(str(error), now, retry=True)
            return []
        self.generation += 1
        self.state, self._diagnosis, self._gathers, self.falls_back = "forming", None, {}, False
        self.engines = {
            rank: EngineRecord(node, EngineKey(GROUP, self.generation, rank), first, last - first)
            for rank, (node, (first, last)) in enumerate(zip(self.nodes, ranges(self.split), strict=True))
        }
        ticket = self.ticket()
        return [(each.node, StartEngine(each.key, self._spec(each, ticket))) for each in self.engines.values()]

    def _choose(self) -> str:
        """The best candidate that has not failed since the last success. Raises NoTransport."""
        if len(self.nodes) == 1:
            self._ranked = [NO_TRANSPORT]
            return NO_TRANSPORT
        offers = {node: self._offers[node] for node in self.nodes}
        selection = self.select(offers, self.config.transport.order)
        self.rejected, self._ranked = dict(selection.rejected), list(selection.ranked)
        if not self._ranked:
            raise NoTransport(self.rejected)
        if not self._untried:
            self._tried = []
        return self._untried[0]

    @property
    def _untried(self) -> list[str]:
        return [name for name in self._ranked if name not in self._tried]

    def _spec(self, engine: EngineRecord, ticket: bytes) -> EngineSpec:
        limits = self.config.engine
        options: dict[str, Any] = self.config.transport.options.get(self.transport, {})
        return EngineSpec(
            model=self.config.deployment.model,
            first_layer=engine.first_layer,
            last_layer=engine.first_layer + engine.layers,
            layers=sum(self.split),
            size=len(self.nodes),
            transport=self.transport,
            options=options,
            ticket=ticket,
            start_s=limits.start_s,
            open_s=limits.open_s,
            join_s=limits.join_s,
            load_s=limits.load_s,
            transfer_s=limits.transfer_s,
            prefill_chunk=limits.prefill_chunk,
            max_tensor_bytes=limits.max_tensor_bytes,
        )

    def _fail(self, cause: Symptom, now: float) -> Outbox:
        link = self.state == "forming" and cause.weight >= Weight.LINK
        if link:
            self._tried.append(self.transport)
        out = self._stop_engines(cause.text)
        reason = f"generation {self.generation} over {self.transport}: {cause.text}"
        self._give_reason(reason, now, retry=not (link and self._untried))
        return out

    def _stop_engines(self, reason: str) -> Outbox:
        return [(each.node, StopEngine(each.key, reason)) for each in self.engines.values() if not each.ended]

    def _give_reason(self, reason: str, now: float, *, retry: bool) -> None:
        """Keep the reason; pause before the next attempt, twice as long each time, or not at all for a fallback."""
        self.reasons = [*self.reasons, reason][-KEPT_REASONS:]
        limits = self.config.deployment
        pause = min(limits.retry_max_s, limits.retry_s * 2 ** min(self._failures, MAX_DOUBLINGS)) if retry else 0.0
        self._failures += retry
        self.falls_back = not retry
        self.state, self._diagnosis, self._retry_at = "failed", None, now + pause
        # Old engines still hold their memory; a daemon has killed them by then, or will never say so.
        self._given_up_at = now + 2 * self.config.engine.stop_s + ENDED_S
