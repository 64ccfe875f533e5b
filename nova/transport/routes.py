"""Which of a peer's addresses is dialled from which of our own, and which comes next when one leads nowhere. Pure.

Nodes have several addresses: a Thunderbolt cable, Ethernet, Wi-Fi. A route is a pair of them that share a domain.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from nova.clock import Deadline

MAX_ADDRESSES = 16
"""Addresses of one node that a card may list."""


class Address(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One address as a card lists it, with its domain. What is not numeric does not decode: no name is looked up."""

    host: Annotated[str, Meta(max_length=64)]
    domain: Annotated[str, Meta(max_length=256)]

    def __post_init__(self) -> None:
        ipaddress.ip_address(self.host)


Addresses = Annotated[list[Address], Meta(max_length=MAX_ADDRESSES)]


class Route(msgspec.Struct, frozen=True, order=True):
    """From `source`, an address of our own, to `target`, one of the peer's."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.target} from {self.source}"


def routes(own: Sequence[Address], peer: Sequence[Address]) -> list[Route]:
    """Every pair of addresses of one family that share a domain, best first, where both lists are best first.

    Symmetrical: a peer with addresses of its own finds the same pairs in the same order. The sum of both places in
    the lists decides, then the more even pair, then the addresses themselves.
    """
    ranked = sorted(
        ((here + there, max(here, there), sorted((ours.host, theirs.host))), Route(ours.host, theirs.host))
        for here, ours in enumerate(own)
        for there, theirs in enumerate(peer)
        if ours.domain == theirs.domain and (":" in ours.host) == (":" in theirs.host)
    )
    return list(dict.fromkeys(route for _, route in ranked))


class Course:
    """The dialling of one peer: one route at a time, from the best on, round and round until the deadline.

    One at a time, because a listener takes whoever proved itself last for the peer.
    """

    def __init__(self, routes: Sequence[Route], deadline: Deadline) -> None:
        """`routes` must not be empty."""
        self._routes = routes
        self._deadline = deadline
        self._tried = 0
        self._reasons: dict[Route, str] = {}

    @property
    def route(self) -> Route:
        """The one to try."""
        return self._routes[self._tried % len(self._routes)]

    def patience(self) -> float:
        """Seconds for a sign of life: an equal share for each route that is left in this round, and one for the next.

        A peer with one route is waited for until the deadline.
        """
        left = self._deadline.remaining()
        count = len(self._routes)
        return left if count == 1 else left / (count - self._tried % count + 1)

    def failed(self, route: Route, reason: str) -> None:
        """`route` led nowhere; the next one is tried, unless that has happened."""
        self._reasons[route] = reason
        if route == self.route:
            self._tried += 1

    def pending(self, route: Route, reason: str) -> None:
        """`route` is being tried while the time ends; how it failed before says more."""
        self._reasons.setdefault(route, reason)

    def why(self) -> str:
        """The last reason against each route that was tried, "" before."""
        return "; ".join(f"{route}: {reason}" for route, reason in self._reasons.items())
