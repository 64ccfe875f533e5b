"""A transport that promises little, and keeps that: the branches of the kit for what is not declared."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Buffer, Caps, Group, Rendezvous, Seat, TransportInfo, WritableBuffer
from nova.transport.memory import CAPS, Hub, MemoryConfig, MemoryEndpoint, MemoryGroup, MemoryTransport

MODEST = CAPS & ~(Caps.ANY_PAIR | Caps.REFORM | Caps.FULL_DUPLEX | Caps.AUTHENTICATED | Caps.ENCRYPTED)


class ModestTransport(MemoryTransport):
    """One group in its life, of whoever comes."""

    def __init__(self, config: MemoryConfig, hub: Hub) -> None:
        super().__init__(config, hub)
        self.joined = False

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        return replace(super().probe(hosts), caps=MODEST)

    def open(self, seat: Seat) -> MemoryEndpoint:
        return _Endpoint(self, self._hub, replace(seat, group="", generation=1, ticket=b""), self.config.capacity)


class _Endpoint(MemoryEndpoint):
    def __init__(self, owner: ModestTransport, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, seat, capacity)
        self._owner = owner

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        if self._owner.joined:
            raise FormingFailed("join", "memory", self._seat.rank, "this process has had its group")
        super().join(cards, rendezvous, deadline)
        self._owner.joined = True
        return _Group(self._hub, self._seat, self._capacity)


class _Group(MemoryGroup):
    """One call at a time, with neighbours only."""

    caps = MODEST

    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, seat, capacity)
        self._one = threading.Lock()

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        with self._one:
            super().send(parts, self._near(dst), deadline)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        with self._one:
            super().recv_into(out, self._near(src), deadline)

    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        with self._one:
            super().send_array(array, self._near(dst), deadline)

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        with self._one:
            return super().recv_array(shape, dtype, self._near(src), deadline)

    def _near(self, rank: int) -> int:
        if (rank - self.rank) % self.size not in (1, self.size - 1):
            raise ValueError(f"rank {rank} is no neighbour of rank {self.rank}")
        return rank
