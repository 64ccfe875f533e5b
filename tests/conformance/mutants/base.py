"""A defect is a subclass of the memory transport, its endpoint or its group; here it becomes a transport."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from nova.clock import Deadline
from nova.transport.api import Caps, Group, Rendezvous, Seat, TransportInfo
from nova.transport.memory import CAPS, Hub, MemoryConfig, MemoryEndpoint, MemoryGroup, MemoryTransport

Defect = type[MemoryTransport] | type[MemoryEndpoint] | type[MemoryGroup]
D = TypeVar("D", bound=Defect)

MUTANTS: dict[str, tuple[Defect, frozenset[str]]] = {}
"""By the defect's name: the defect, and the cases that must fail, and no other."""

STUCK_S = 6.0
"""s; stands for ever. It is more than a case gets in these tests, and ends, so that no thread stays behind."""

released = threading.Event()
"""Set when all is over: threads that a mutant leaks end then."""

leaked: list[int] = []
"""Descriptors that mutants leak, for the tests to close."""


def fails(*cases: str) -> Callable[[D], D]:
    """Register a defect under its class's name."""

    def register(defect: D) -> D:
        MUTANTS[defect.__name__] = defect, frozenset(cases)
        return defect

    return register


def maker(defect: Defect) -> Callable[[], MemoryTransport]:
    """Makes the ranks' transports, which meet in one hub."""
    hub = Hub()
    if issubclass(defect, MemoryTransport):
        return lambda: defect(defect.Config(), hub)
    if issubclass(defect, MemoryEndpoint):
        return lambda: _WithEndpoint(hub, defect)
    return lambda: _WithGroup(hub, defect)


class _WithEndpoint(MemoryTransport):
    def __init__(self, hub: Hub, kind: type[MemoryEndpoint]) -> None:
        super().__init__(MemoryConfig(), hub)
        self._kind = kind

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        return replace(super().probe(hosts), caps=getattr(self._kind, "caps", CAPS))

    def open(self, seat: Seat) -> MemoryEndpoint:
        return self._kind(self._hub, seat, self.config.capacity)


class _WithGroup(MemoryTransport):
    def __init__(self, hub: Hub, kind: type[MemoryGroup]) -> None:
        super().__init__(MemoryConfig(), hub)
        self._kind = kind

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        caps = self._kind.caps
        return replace(super().probe(hosts), caps=caps, collectives=("all_sum",) if Caps.COLLECTIVES in caps else ())

    def open(self, seat: Seat) -> MemoryEndpoint:
        return GroupEndpoint(self._hub, seat, self.config.capacity, self._kind)


class GroupEndpoint(MemoryEndpoint):
    def __init__(self, hub: Hub, seat: Seat, capacity: int, kind: type[MemoryGroup]) -> None:
        super().__init__(hub, seat, capacity)
        self._kind = kind

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        super().join(cards, rendezvous, deadline)
        return self._kind(self._hub, self._seat, self._capacity)
