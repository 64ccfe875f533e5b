"""Which transport is tried next: the selection, what failed of late, and what was measured. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from nova.config.schema import Transport as Policy
from nova.coordinator.pause import doubled
from nova.coordinator.reach import links
from nova.errors import NoTransport
from nova.transport.select import Candidate, Selection, select
from nova.wire.plans import LinkProfile
from nova.wire.values import CandidateReport, LinkMeasure, TransportOffer


@dataclass
class Hold:
    """A transport that failed between these nodes is not chosen before `until`, while there is another."""

    until: float
    failures: int
    reason: str


@dataclass
class Choice:
    """What the coordinator knows for choosing between `nodes`, in pipeline order. Offers come by node, also of others
    that may have a place later; holds are for all of `nodes` together."""

    policy: Policy
    nodes: Sequence[str]
    offers: dict[str, Sequence[TransportOffer]] = field(default_factory=dict)
    selection: Selection = field(default_factory=lambda: Selection([], {}))
    _told: dict[str, Sequence[TransportOffer]] = field(default_factory=dict)
    """What each node offered last, also of one that is away."""
    _holds: dict[str, Hold] = field(default_factory=dict)
    _measured: dict[tuple[str, str, str], LinkMeasure] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        return [node for node in self.nodes if node not in self.offers]

    def offered(self, node: str, offers: Sequence[TransportOffer]) -> bool:
        """A node's offers; true when they differ from what it said last.

        Its addresses or hardware have changed then, so what failed may work and what was measured may be wrong.
        """
        self.offers[node] = offers
        if self._told.get(node) == offers:
            return False
        self._told[node] = offers
        if node in self.nodes:
            self._holds.clear()
        self._measured = {key: link for key, link in self._measured.items() if node not in key[1:]}
        return True

    def place(self, nodes: Sequence[str]) -> None:
        """Others are to be connected, or in another order: what failed may work with these."""
        if set(nodes) != set(self.nodes):
            self._holds.clear()
        self.nodes, self.selection = list(nodes), Selection([], {})

    def left(self, node: str) -> bool:
        """Whether it was there. Holds stay: it may come back as it was."""
        return self.offers.pop(node, None) is not None

    def look(self, now: float) -> Selection:
        """Judge everything that is offered. A side channel that is held back comes after the others."""
        side = sorted(self.policy.side, key=lambda name: self._is_held(name, now))
        policy = msgspec.structs.replace(self.policy, side=side)
        self.selection = select({node: self.offers[node] for node in self.nodes}, policy, self._measured)
        return self.selection

    def best(self, now: float, tested: str = "") -> Candidate:
        """The one of this name, which a trial has shown to work; or the best. One that is held back is taken only if
        all are: that whose pause ends first. Raises NoTransport.
        """
        selection = self.look(now)
        if not selection.ranked:
            raise NoTransport(selection.rejected)
        free = self.free(now)
        if not free:
            return min(selection.ranked, key=lambda each: self._holds[each.name].until)
        return next((each for each in free if each.name == tested), free[0])

    def free(self, now: float) -> list[Candidate]:
        """The candidates of the last look that are not held back, best first."""
        return [each for each in self.selection.ranked if not self._is_held(each.name, now)]

    def hold(self, name: str, reason: str, now: float) -> None:
        """It failed: the pause doubles each time. Only who kept well for the longest pause begins anew: one that
        comes up and fails later, again and again, is not to be tried at the same pace for ever.
        """
        before = self._holds.get(name)
        failures = before.failures + 1 if before is not None and now < before.until + self.policy.hold_max_s else 1
        pause_s = doubled(self.policy.hold_s, failures - 1, self.policy.hold_max_s)
        self._holds[name] = Hold(now + pause_s, failures, reason)

    def formed(self, candidate: Candidate, links: dict[int, LinkMeasure], now: float) -> None:
        """It came up: its pause is over, and what was measured replaces the estimates."""
        if (hold := self._holds.get(candidate.name)) is not None:
            hold.until = min(hold.until, now)
        for rank, link in links.items():
            self._measured[candidate.name, self.nodes[rank], self.nodes[link.peer]] = link

    def links(self) -> list[LinkProfile]:
        """Between all nodes that have offered something, for a plan."""
        return links(self.offers, self.policy, self._measured)

    def report(self, in_use: str, now: float) -> list[CandidateReport]:
        """Every transport that was judged, best first, then those that were rejected."""
        found = []
        for each in self.selection.ranked:
            verdict, reason, hold = "possible", "", self._holds.get(each.name)
            if hold is not None and hold.until > now:
                verdict = "held"
                reason = f"held back for {hold.until - now:.0f} s more, failed {hold.failures} times: {hold.reason}"
            if each.name == in_use:
                verdict = "chosen"
            side = each.side.name if each.side is not None else ""
            found.append(CandidateReport(each.name, verdict, reason, each.cost_s, each.measured, side))
        rejected = sorted(self.selection.rejected.items())
        return found + [CandidateReport(name, "rejected", reason) for name, reason in rejected]

    def _is_held(self, name: str, now: float) -> bool:
        hold = self._holds.get(name)
        return hold is not None and hold.until > now
