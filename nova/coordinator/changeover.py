"""While a group serves: whether another transport would serve better, found out beside it. Pure.

A transport may be better because one that was held back may be tried again, because a node's addresses or hardware
have changed, or because a link of the group has become slow. It is first formed in a trial, without a model, so that
a group that works is never given up for one that does not; the change itself is made between requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nova.config.schema import Transport as Policy
from nova.coordinator.choice import Choice
from nova.coordinator.generation import EngineRecord, Generation
from nova.coordinator.links import LinkWatch, usual_s
from nova.coordinator.trial import Outbox, Trial, Verdict
from nova.transport.select import Candidate
from nova.wire.messages import EngineExited, EngineState, Gather
from nova.wire.values import EngineSpec, LinkMeasure
from nova.wire.work import ChunkTiming

GAIN = 1.5
"""So many times cheaper must a transport be that the policy's order does not put first: two that are as good as each
other measure a little different every time, and a new forming loads the model again."""


@dataclass
class Changeover:
    """`spec(engine, candidate, ticket)` is what an engine of a trial is told to be; `ticket` makes its secret."""

    policy: Policy
    choice: Choice
    spec: Callable[[EngineRecord, Candidate, bytes], EngineSpec]
    ticket: Callable[[], bytes]
    trial: Trial
    better: str = ""
    """Why a new forming is worth it; "" while it is not."""
    tested: str = ""
    """The transport that a trial has shown to work, until a group serves again."""
    past: list[Generation] = field(default_factory=list)
    """The trial of late, for the account."""
    _serving: Generation | None = None
    _links: LinkWatch | None = None
    _slow: str = ""
    """The last thing that was said of a slow link."""

    def begin(self, generation: Generation, now: float) -> None:
        """This group serves from now on, and what was measured counts."""
        if len(self.choice.nodes) > 1:
            self.choice.look(now)
        self._serving, self.better, self.tested, self._slow = generation, "", "", ""
        self._links = LinkWatch(self.policy.slow_factor, generation.links)

    def end(self, now: float) -> Outbox:
        """No group serves any more, so there is nothing to be better than."""
        if self.better and self._serving is not None and self._is_slow:
            self.choice.hold(self._serving.transport, self._slow, now)  # or it would be taken again at once
        self._serving, self._links, self.better = None, None, ""
        return self._dropped(self.trial.abandon(now))

    def afresh(self, now: float) -> Outbox:
        """The nodes' addresses or hardware have changed: what was found out before does not count."""
        self.better, self.tested = "", ""
        if self._serving is not None and not self.choice.missing:
            self.choice.look(now)
        return self._dropped(self.trial.abandon(now))

    @property
    def trials(self) -> list[Generation]:
        """Those of late, and the one that runs."""
        return [*self.past, *([self.trial.running] if self.trial.running is not None else [])]

    @property
    def recent(self) -> dict[int, float]:
        """The median one-way time of late in seconds, by the rank that sends."""
        return self._links.recent if self._links is not None else {}

    def passed(self, timings: Sequence[ChunkTiming], offsets_ns: Sequence[int]) -> str:
        """Chunks have gone through all stages. What is to be said of a link that has become slow, once; else ""."""
        if self._links is None or self._serving is None:
            return ""
        self._links.saw(timings, offsets_ns)
        slow = self._links.slow()
        if slow is None:
            return ""
        rank, taken_s, expected_s = slow
        engines = self._serving.engines
        ends = f"{engines[rank].node} to {engines[(rank + 1) % len(engines)].node}"
        took = f"takes {taken_s * 1e3:.1f} ms, {expected_s * 1e3:.1f} ms when verified"
        self._slow = f"the link {ends} over {self._serving.over} {took}"
        return self._slow

    def tick(self, now: float) -> Outbox:
        """Begin a trial of what stands before the transport in use, or beside it when it has become slow; nothing that
        is held back."""
        late = self._decided(self.trial.tick(now), now)
        serving, nodes = self._serving, list(self.choice.nodes)
        if serving is None or len(nodes) < 2 or self.choice.missing or not self.policy.reform:
            return late
        if self.better or self.trial.running is not None:
            return late
        if self._next(now) is None:
            return late
        self.choice.look(now)  # the side channel may be another by now
        candidate = self._next(now)
        if candidate is None:
            return late
        ticket = self.ticket()
        return late + self.trial.begin(candidate, nodes, lambda engine: self.spec(engine, candidate, ticket), now)

    def engine_state(self, node: str, state: EngineState, now: float) -> Outbox:
        return self._decided(self.trial.engine_state(node, state, now), now)

    def engine_exited(self, node: str, exited: EngineExited, now: float) -> Outbox:
        return self._decided(self.trial.engine_exited(node, exited, now), now)

    def gathered(self, node: str, gather: Gather) -> Outbox:
        return self.trial.gathered(node, gather)

    def node_left(self, node: str, now: float) -> Outbox:
        """Its transport is not to blame for that."""
        return self._dropped(self.trial.node_left(node, now))

    @property
    def _is_slow(self) -> bool:
        return self._links is not None and self._links.told

    def _next(self, now: float) -> Candidate | None:
        """What to try, by the last look."""
        return next((each for each in self.choice.free(now) if self._is_preferred(each.name)), None)

    def _is_preferred(self, name: str) -> bool:
        """Whether this transport is to be taken rather than the one that serves, by the last look."""
        ranked = {each.name: each for each in self.choice.selection.ranked}
        here = self._serving.transport if self._serving is not None else ""
        if name == here or self._is_slow or here not in ranked:
            return name != here
        if list(ranked).index(name) > list(ranked).index(here):
            return False
        return name in self.policy.order or ranked[name].cost_s * GAIN < ranked[here].cost_s

    def _dropped(self, verdict: Verdict | None) -> Outbox:
        """A trial that ended before it could tell anything."""
        if verdict is None:
            return []
        self.past = [verdict.generation]
        return self.trial.stop(verdict.generation)

    def _decided(self, verdict: Verdict | None, now: float) -> Outbox:
        """What a trial's end means."""
        if verdict is None:
            return []
        generation = verdict.generation
        self.past = [generation]
        reason = verdict.reason or self._too_slow(generation.links)
        if reason:
            self.choice.hold(generation.transport, reason, now)
            return self.trial.stop(generation)
        self.choice.formed(generation.candidate, generation.links, now)
        self.choice.look(now)
        if self._is_preferred(generation.transport):
            nodes, self.tested = " and ".join(self.choice.nodes), generation.transport
            why = "its link has become slow" if self._is_slow else "stands before it"
            self.better = f"{generation.over} works between {nodes} too, and {why}"
        return self.trial.stop(generation)

    def _too_slow(self, links: dict[int, LinkMeasure]) -> str:
        """Why not to change to it even though it works: it is much slower than the transport in use, or no faster than
        one that has become slow."""
        if self._serving is None or self._links is None or not links or not self._serving.links:
            return ""
        there, verified = (max(map(usual_s, each.values())) for each in (links, self._serving.links))
        here = max([verified, *self.recent.values()]) if self._is_slow else verified
        if there <= here * (1.0 if self._is_slow else self.policy.slow_factor or float("inf")):
            return ""
        return f"it works, but a message takes {there * 1e3:.1f} ms, {here * 1e3:.1f} ms over {self._serving.over}"
