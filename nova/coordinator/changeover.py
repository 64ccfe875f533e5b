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
from nova.wire.values import EngineSpec, LinkMeasure, TokenTiming


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
    past: list[Generation] = field(default_factory=list)
    """The trial of late, for the account."""
    _serving: Generation | None = None
    _links: LinkWatch | None = None

    def begin(self, generation: Generation) -> None:
        """This group serves from now on."""
        self._serving, self.better = generation, ""
        self._links = LinkWatch(self.policy.slow_factor, generation.links)

    def end(self, now: float) -> Outbox:
        """No group serves any more, so there is nothing to be better than."""
        self._serving, self._links, self.better = None, None, ""
        verdict = self.trial.abandon(now)
        return self.trial.stop(verdict.generation) if verdict is not None else []

    @property
    def recent(self) -> dict[int, float]:
        """The median one-way time of late in seconds, by the rank that sends."""
        return self._links.recent if self._links is not None else {}

    def passed(self, timings: Sequence[TokenTiming], offsets_ns: Sequence[int], now: float) -> str:
        """Chunks have gone through all stages. What is to be said of a link that has become slow, once; else ""."""
        if self._links is None or self._serving is None:
            return ""
        self._links.saw(timings, offsets_ns)
        slow = self._links.slow()
        if slow is None:
            return ""
        rank, taken_s, expected_s = slow
        self._links.told = True
        engines = self._serving.engines
        ends = f"{engines[rank].node} to {engines[(rank + 1) % len(engines)].node}"
        took = f"takes {taken_s * 1e3:.1f} ms, {expected_s * 1e3:.1f} ms when verified"
        reason = f"the link {ends} over {self._serving.over} {took}"
        self.choice.hold(self._serving.transport, reason, now)
        return reason

    def tick(self, now: float) -> Outbox:
        """Begin a trial of what stands before the transport in use, unless it is held back."""
        late = self._decided(self.trial.tick(now), now)
        serving, nodes = self._serving, list(self.choice.nodes)
        if serving is None or len(nodes) < 2 or self.choice.missing or not self.policy.reform:
            return late
        if self.better or self.trial.running is not None:
            return late
        free = self.choice.free(now)
        if not free or free[0].name == serving.transport:
            return late
        candidate, ticket = free[0], self.ticket()
        return late + self.trial.begin(candidate, nodes, lambda engine: self.spec(engine, candidate, ticket), now)

    def engine_state(self, node: str, state: EngineState, now: float) -> Outbox:
        return self._decided(self.trial.engine_state(node, state, now), now)

    def engine_exited(self, node: str, exited: EngineExited, now: float) -> Outbox:
        return self._decided(self.trial.engine_exited(node, exited, now), now)

    def gathered(self, node: str, gather: Gather) -> Outbox:
        return self.trial.gathered(node, gather)

    def node_left(self, node: str, now: float) -> Outbox:
        return self._decided(self.trial.node_left(node, now), now)

    def _decided(self, verdict: Verdict | None, now: float) -> Outbox:
        """What a trial's end means."""
        if verdict is None:
            return []
        generation = verdict.generation
        self.past = [generation]
        reason = verdict.reason or self._too_slow(generation.links)
        if reason:
            self.choice.hold(generation.transport, reason, now)
        else:
            self.choice.formed(generation.candidate, generation.links)
            nodes = " and ".join(self.choice.nodes)
            self.better = f"{generation.over} works between {nodes} too, and stands before it"
        return self.trial.stop(generation)

    def _too_slow(self, links: dict[int, LinkMeasure]) -> str:
        """Why not to change to it even though it works: it is much slower than the transport in use, or no faster than
        one that has become slow."""
        if self._serving is None or self._links is None or not links or not self._serving.links:
            return ""
        there, verified = (max(map(usual_s, each.values())) for each in (links, self._serving.links))
        slow = self._links.told
        here = max([verified, *self.recent.values()]) if slow else verified
        if there <= here * (1.0 if slow else self.policy.slow_factor or float("inf")):
            return ""
        return f"it works, but a message takes {there * 1e3:.1f} ms, {here * 1e3:.1f} ms over {self._serving.over}"
