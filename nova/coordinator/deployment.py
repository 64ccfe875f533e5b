"""The life of one deployment: wait for its nodes, form a group, serve, and form it anew when something dies.

    waiting --all nodes are here--> forming --all engines ready--> serving
       ^                               |                              |
       '------- pause, engines ended --+--- something died, or a better transport is there

A pure machine: it is fed with events and a clock reading, and gives messages to send to nodes. Every attempt is a
new generation with new engines, and every failure keeps its reason. A transport that could not set up its link, or
broke, is held back, and the next candidate is tried at once; when all have failed, there is a pause before the next
attempt. On which nodes the layers are is told by `place`, before the first forming and again between requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nova.coordinator.changeover import Changeover
from nova.coordinator.choice import Choice
from nova.coordinator.diagnosis import Diagnosis, Symptom, engine_exited, node_lost
from nova.coordinator.generation import ALONE, EngineRecord, Generation
from nova.coordinator.pause import Pause
from nova.coordinator.placement import Placement, placed_engines
from nova.coordinator.spec import Shape, engine_spec
from nova.coordinator.standing import Standing
from nova.coordinator.trial import GROUP as TRIAL
from nova.coordinator.trial import Trial
from nova.errors import TransportError
from nova.transport.select import Candidate
from nova.wire.messages import EngineExited, EngineState, Gather, Gathered, Message, StartEngine, StopEngine
from nova.wire.values import EngineKey, EngineSpec, TransportOffer
from nova.wire.work import ChunkTiming

KEPT = 20
"""Reasons and attempts that are kept for whoever asks."""

ENDED_S = 2.0
"""What an engine's end, once it was killed, may take to be reported."""

Outbox = list[tuple[str, Message]]
"""Messages with the node that each is for."""


@dataclass
class Deployment(Standing):
    """Everything that changes it."""

    def __post_init__(self) -> None:
        self._candidates = frozenset(self.nodes)
        self._pause = Pause(self.config.deployment.retry_s, self.config.deployment.retry_max_s)
        self.choice = Choice(self.config.transport, self.nodes)
        limits = self.config.engine
        trial = Trial(limits.start_s + limits.open_s + limits.join_s)
        self.change = Changeover(self.config.transport, self.choice, self._trial_spec, self.ticket, trial)

    # --- events -----------------------------------------------------------------------------------------------------

    def place(self, nodes: Sequence[str], split: Sequence[int], now: float, why: str = "") -> Outbox:
        """The layers go to these of the nodes, in this order. A group that serves ends first, for the reason `why`, as
        soon as no request is worked on."""
        self._moves = Placement(list(nodes), list(split), why)
        if not self._running:
            self._move()
        return self.tick(now)

    def not_placed(self, reason: str, now: float) -> None:
        """Nobody could say where the layers shall go: a failure like every other one."""
        self._give_reason(reason, now, retry=True)

    def node_joined(self, node: str, offers: Sequence[TransportOffer], now: float) -> Outbox:
        if node in self._candidates and self.choice.offered(node, offers) and self.state == "failed":
            self._pause.cut(now)  # it came back as another
        return self.tick(now)

    def node_offers(self, node: str, offers: Sequence[TransportOffer], now: float) -> Outbox:
        """A node's addresses or hardware have changed: what failed is tried again, and something may be better now."""
        if node not in self.choice.offers or not self.choice.offered(node, offers):
            return self.tick(now)
        if self.state == "failed":
            self._pause.cut(now)
        return (self.change.afresh(now) if node in self.nodes else []) + self.tick(now)

    def node_left(self, node: str, why: str, now: float) -> Outbox:
        if self.choice.left(node):
            for engine in self.engines.values():
                engine.ended = engine.ended or engine.node == node
            if self._running and node in self.nodes:
                self._note(node_lost(node, why), now)
        return self.change.node_left(node, now) + self.tick(now)

    def engine_state(self, node: str, state: EngineState, now: float) -> Outbox:
        if state.engine.group == TRIAL:
            return self.change.engine_state(node, state, now)
        found = self._find(node, state.engine)
        if found is None:
            return []
        generation, engine = found
        generation.told(engine, state, now)
        if self.state == "forming" and generation.ready:
            self.state, self._pause.failures, generation.outcome = "serving", 0, "serving"
            self.choice.formed(generation.candidate, generation.links, now)
            self.change.begin(generation, now)
        return []

    def engine_exited(self, node: str, exited: EngineExited, now: float) -> Outbox:
        if exited.engine.group == TRIAL:
            return self.change.engine_exited(node, exited, now)
        found = self._find(node, exited.engine)
        if found is None:
            return []
        generation, engine = found
        engine.ended, engine.log_tail = True, exited.log_tail
        if self._running:
            self._note(engine_exited(node, exited, self.nodes, generation.awaited), now)
        return self.tick(now)

    def gathered(self, node: str, gather: Gather, now: float) -> Outbox:
        """One rank's blob; the answer goes to all ranks in the moment the last one is in: that is the "go"."""
        if gather.engine.group == TRIAL:
            return self.change.gathered(node, gather)
        found = self._find(node, gather.engine)
        if found is None or not self._running:
            return []
        generation, _ = found
        blobs = generation.gathered(gather)
        if blobs is None:
            return []
        return [(each.node, Gathered(each.key, gather.round, blobs)) for each in generation.engines.values()]

    def passed(self, timings: Sequence[ChunkTiming], offsets_ns: Sequence[int]) -> str:
        """Chunks have gone through all stages: what is to be said of a link that has become slow, once; else ""."""
        reason = self.change.passed(timings, offsets_ns)
        if reason:
            self._keep(reason)
        return reason

    def idle(self, now: float) -> Outbox:
        """No request is worked on at this moment: what waited for that is done."""
        better = self._moves.why if self._moves is not None else self.change.better
        if self.state != "serving" or not better or self._diagnosis is not None or self.current is None:
            return []
        reason = f"generation {self.current.number} over {self.over} ends between requests: {better}"
        self.current.end("ended", now, cause=better)
        out = self._stop_engines(better) + self.change.end(now)
        self._give_reason(reason, now, retry=False)
        return out

    def tick(self, now: float) -> Outbox:
        """Whatever time brings: a diagnosis that is ripe, a pause that is over."""
        cause = self._diagnosis.cause(now, self._all_ended) if self._diagnosis is not None else None
        if self._running and cause is not None:
            return self._fail(cause, now)
        gone = self._all_ended or now >= self._given_up_at
        if self.split and gone and self.may_try(now):
            return self._form(now)
        return self.change.tick(now)

    def stop(self, now: float) -> Outbox:
        """End the present generation for good."""
        out = self._stop_engines("the deployment ends") + self.change.end(now)
        if self.current is not None:
            self.current.end("ended", now)
        self.state = "stopped"
        return out

    # --- inside -----------------------------------------------------------------------------------------------------

    def _find(self, node: str, key: EngineKey) -> tuple[Generation, EngineRecord] | None:
        """The present generation and its engine, unless the message is a stranger's or an old generation's."""
        generation = self.current
        engine = generation.engine(node, key) if generation is not None else None
        return (generation, engine) if generation is not None and engine is not None else None

    def _note(self, symptom: Symptom, now: float) -> None:
        if self._diagnosis is None:
            # A lost node is known after dead_after_s of silence; a second more for what comes late.
            self._diagnosis = Diagnosis(self.config.control.dead_after_s + 1.0)
        self._diagnosis.add(symptom, now)

    def _form(self, now: float) -> Outbox:
        try:
            candidate = ALONE if len(self.nodes) == 1 else self.choice.best(now, self.change.tested)
        except TransportError as error:
            self._replace(None)
            self._give_reason(str(error), now, retry=True)
            return []
        self.generation = number = self.generation + 1
        engines = placed_engines(self.nodes, self.split, number)
        self._replace(Generation(number, candidate, engines, now))
        self.state, self._diagnosis, self.falls_back = "forming", None, False
        ticket = self.ticket()
        shape = Shape(sum(self.split), len(engines), ticket)
        specs = [(each, engine_spec(self.config, each, candidate, shape)) for each in engines.values()]
        return [(each.node, StartEngine(each.key, spec)) for each, spec in specs]

    def _move(self) -> None:
        if self._moves is not None:
            self.nodes, self.split, self._moves = self._moves.nodes, self._moves.split, None
            self.choice.place(self.nodes)

    def _trial_spec(self, engine: EngineRecord, candidate: Candidate, ticket: bytes) -> EngineSpec:
        return engine_spec(self.config, engine, candidate, Shape(0, len(self.nodes), ticket))

    def _replace(self, generation: Generation | None) -> None:
        if self.current is not None:
            self._past = [*self._past, self.current][-KEPT:]
        self.current = generation

    def _fail(self, cause: Symptom, now: float) -> Outbox:
        assert self.current is not None
        if cause.link:
            self.choice.hold(self.transport, cause.text, now)
        self.current.end("failed", now, cause.phase, cause.text)
        out = self._stop_engines(cause.text) + self.change.end(now)
        reason = f"generation {self.generation} over {self.over}: {cause.text}"
        self._give_reason(reason, now, retry=not (cause.link and self.choice.free(now)))
        return out

    def _stop_engines(self, reason: str) -> Outbox:
        return [(each.node, StopEngine(each.key, reason)) for each in self.engines.values() if not each.ended]

    def _keep(self, reason: str) -> None:
        self.reasons = [*self.reasons, reason][-KEPT:]

    def _give_reason(self, reason: str, now: float, *, retry: bool) -> None:
        """Keep the reason; pause before the next attempt, twice as long each time, or not at all for a fallback."""
        self._keep(reason)
        if retry:
            self._pause.failed(now)
        else:
            self._pause.cut(now)
        self.state, self.falls_back, self._diagnosis = "failed", not retry, None
        self._move()
        # Old engines still hold their memory; a daemon has killed them by then, or will never say so.
        self._given_up_at = now + 2 * self.config.engine.stop_s + ENDED_S
