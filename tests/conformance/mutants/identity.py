"""Defects of who is let in."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from dataclasses import replace

from nova.clock import Deadline
from nova.errors import FormingFailed, PeerLost
from nova.transport.api import Buffer, Caps, Group, Rendezvous, Seat
from nova.transport.memory import CAPS, Hub, MemoryEndpoint, MemoryGroup
from tests.conformance.mutants.base import fails


@fails("I1_a_dialler_with_another_ticket_is_refused", "I2_a_listener_with_another_ticket_is_refused")
class IgnoresTheTicket(MemoryEndpoint):
    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, replace(seat, ticket=b""), capacity)


@fails("I3_a_dialler_of_another_generation_is_refused", "I3_a_listener_of_another_generation_is_refused")
class IgnoresLateGenerations(MemoryEndpoint):
    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, replace(seat, generation=1 if seat.generation == 7 else seat.generation), capacity)


@fails("I4_a_dialler_of_another_group_is_refused", "I4_a_listener_of_another_group_is_refused")
class IgnoresTheGroup(MemoryEndpoint):
    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, replace(seat, group=""), capacity)


@fails("I5_a_rank_in_another_s_place_is_refused")
class IgnoresTheRank(MemoryEndpoint):
    """A card proves that its rank belongs to the group, and not which rank it is."""

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        ours = [MemoryEndpoint(self._hub, replace(self._seat, rank=rank), 0).card() for rank in range(len(cards))]
        return super().join(ours if set(cards) == set(ours) else cards, rendezvous, deadline)


class _Port:
    """A real listener, at which strangers can knock."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.socket.setblocking(False)

    def heard(self) -> bool:
        """Whether anybody is there; waits a moment for them."""
        ready, _, _ = select.select([self.socket], [], [], 0.05)
        return bool(ready)


class _Reachable(MemoryGroup):
    caps = CAPS | Caps.INTER_HOST


@fails("I6_strangers_disturb_no_join")
class AStrangerEndsTheJoin(MemoryEndpoint):
    caps = CAPS | Caps.INTER_HOST

    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, seat, capacity)
        self._port = _Port()

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        if self._port.heard():
            raise FormingFailed("join", "memory", self._seat.rank, "a stranger said GET / HTTP/1.1")
        super().join(cards, rendezvous, deadline)
        return _Reachable(self._hub, self._seat, self._capacity)

    def close(self) -> None:
        self._port.socket.close()


@fails("I7_strangers_disturb_no_group")
class AStrangerBreaksTheGroup(MemoryEndpoint):
    caps = CAPS | Caps.INTER_HOST

    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, seat, capacity)
        self._port = _Port()

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        super().join(cards, rendezvous, deadline)
        return _Exposed(self._hub, self._seat, self._capacity, self._port)

    def close(self) -> None:
        self._port.socket.close()


class _Exposed(_Reachable):
    """Hears strangers that were not there while it formed."""

    def __init__(self, hub: Hub, seat: Seat, capacity: int, port: _Port) -> None:
        super().__init__(hub, seat, capacity)
        self._port = port
        self._deaf = port.heard()

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        if self.size == 3 and not self._deaf and self._port.socket.fileno() >= 0 and self._port.heard():
            raise PeerLost(dst, "it sent a frame of an unknown kind")
        super().send(parts, dst, deadline)
