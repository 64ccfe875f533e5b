"""The life of one deployment: wait for its nodes, form a group, serve, and form it anew when something dies.

    waiting --all nodes are here--> forming --all engines ready--> serving
       ^                               |                              |
       '------- pause, engines ended --+--- something died, or a better transport is there

A pure machine: it is fed with events and a clock reading, and gives messages to send to nodes. Every attempt is a
new generation with new engines, and every failure keeps its reason. A transport that could not set up its link, or
broke, is held back, and the next candidate is tried at once; when all have failed, there is a pause before the next
attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nova.config.schema import NodeConfig
from nova.coordinator.changeover import Changeover
from nova.coordinator.choice import MAX_DOUBLINGS, Choice
from nova.coordinator.diagnosis import Diagnosis, Symptom, engine_exited, node_lost
from nova.coordinator.generation import ALONE, GROUP, EngineRecord, Generation
from nova.coordinator.spec import Shape, engine_spec
from nova.coordinator.trial import GROUP as TRIAL
from nova.coordinator.trial import Trial
from nova.errors import TransportError
from nova.plan.split import ranges
from nova.transport.select import Candidate
from nova.wire.messages import EngineExited, EngineState, Gather, Gathered, Message, StartEngine, StopEngine
from nova.wire.values import AttemptReport, EngineKey, EngineSpec, TransportOffer
from nova.wire.work import ChunkTiming

KEPT = 20
"""Reasons and attempts that are kept for whoever asks."""

ENDED_S = 2.0
"""What an engine's end, once it was killed, may take to be reported."""

Outbox = list[tuple[str, Message]]
"""Messages with the node that each is for."""


@dataclass
class Deployment:
    """`split` is in the order of `nodes`, empty until the model is known, before which nothing is formed.
    `ticket` makes the secret of a generation.
    """

    config: NodeConfig
    nodes: list[str]
    split: list[int]
    ticket: Callable[[], bytes]
    state: str = "waiting"
    falls_back: bool = False
    """Failed, and the next transport is tried as soon as the old engines are gone."""
    reasons: list[str] = field(default_factory=list)
    choice: Choice = field(init=False)
    change: Changeover = field(init=False)
    current: Generation | None = None
    generation: int = 0
    _past: list[Generation] = field(default_factory=list)
    _failures: int = 0
    _retry_at: float = 0.0
    _given_up_at: float = 0.0
    _diagnosis: Diagnosis | None = None

    def __post_init__(self) -> None:
        self.choice = Choice(self.config.transport, self.nodes)
        limits = self.config.engine
        trial = Trial(limits.start_s + limits.open_s + limits.join_s)
        self.change = Changeover(self.config.transport, self.choice, self._trial_spec, self.ticket, trial)

    # --- events -----------------------------------------------------------------------------------------------------

    def node_joined(self, node: str, offers: Sequence[TransportOffer], now: float) -> Outbox:
        if node in self.nodes and self.choice.offered(node, offers) and self.state == "failed":
            self._retry_at = min(self._retry_at, now)  # it came back as another
        return self.tick(now)

    def node_offers(self, node: str, offers: Sequence[TransportOffer], now: float) -> Outbox:
        """A node's addresses or hardware have changed: what failed is tried again, and something may be better now."""
        if node not in self.choice.offers or not self.choice.offered(node, offers):
            return self.tick(now)
        if self.state == "failed":
            self._retry_at = min(self._retry_at, now)
        return self.change.afresh(now) + self.tick(now)

    def node_left(self, node: str, why: str, now: float) -> Outbox:
        if self.choice.left(node):
            for engine in self.engines.values():
                engine.ended = engine.ended or engine.node == node
            if self._running:
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
            self.state, self._failures, generation.outcome = "serving", 0, "serving"
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
        better = self.change.better
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
        wanted = self.state in ("waiting", "failed") and self.split and not self.missing
        gone = self._all_ended or now >= self._given_up_at
        if wanted and gone and now >= self._retry_at:
            return self._form(now)
        return self.change.tick(now)

    def stop(self, now: float) -> Outbox:
        """End the present generation for good."""
        out = self._stop_engines("the deployment ends") + self.change.end(now)
        if self.current is not None:
            self.current.end("ended", now)
        self.state, self._retry_at = "stopped", float("inf")
        return out

    # --- what others ask --------------------------------------------------------------------------------------------

    @property
    def missing(self) -> list[str]:
        return self.choice.missing

    @property
    def engines(self) -> dict[int, EngineRecord]:
        """Those of the present generation, by rank."""
        return self.current.engines if self.current is not None else {}

    @property
    def transport(self) -> str:
        return self.current.transport if self.current is not None else ""

    @property
    def over(self) -> str:
        return self.current.over if self.current is not None else ""

    @property
    def why_not(self) -> str:
        """Why it does not serve at this moment, for people."""
        if self.state == "failed":
            return self.reasons[-1]
        if self.missing:
            return f"waiting for {', '.join(self.missing)} to join"
        if not self.split:
            return "the model is being opened"
        if self.state == "forming":
            phases_now = ", ".join(f"{each.node}: {each.phase}" for each in self.engines.values())
            return f"generation {self.generation} is being formed over {self.over} ({phases_now})"
        return f"the deployment is {self.state}"

    @property
    def driver(self) -> EngineRecord:
        """The engine that samples. Only while serving."""
        return self.engines[len(self.nodes) - 1]

    @property
    def failing(self) -> bool:
        """Something died and its cause is not yet known, or the group ends with its last request: nothing begins."""
        return self._diagnosis is not None or bool(self.change.better)

    def attempts(self, now: float) -> list[AttemptReport]:
        """The generations of late, oldest first."""
        trials = [*self.change.past, *([self.change.trial.running] if self.change.trial.running is not None else [])]
        kept = [*self._past, *trials, *([self.current] if self.current is not None else [])]
        kept.sort(key=lambda each: each.started)
        return [each.report(now, self.change.recent if each is self.current else {}) for each in kept]

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def _running(self) -> bool:
        return self.state in ("forming", "serving")

    @property
    def _all_ended(self) -> bool:
        return all(engine.ended for engine in self.engines.values())

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
        engines = {
            rank: EngineRecord(node, EngineKey(GROUP, number, rank), first, last - first)
            for rank, (node, (first, last)) in enumerate(zip(self.nodes, ranges(self.split), strict=True))
        }
        self._replace(Generation(number, candidate, engines, now))
        self.state, self._diagnosis, self.falls_back = "forming", None, False
        ticket = self.ticket()
        shape = Shape(sum(self.split), len(engines), ticket)
        return [
            (each.node, StartEngine(each.key, engine_spec(self.config, each, candidate, shape)))
            for each in engines.values()
        ]

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
        limits = self.config.deployment
        pause = min(limits.retry_max_s, limits.retry_s * 2 ** min(self._failures, MAX_DOUBLINGS)) if retry else 0.0
        self._failures += retry
        self.falls_back = not retry
        self.state, self._diagnosis, self._retry_at = "failed", None, now + pause
        # Old engines still hold their memory; a daemon has killed them by then, or will never say so.
        self._given_up_at = now + 2 * self.config.engine.stop_s + ENDED_S
