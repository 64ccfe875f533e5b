"""The ring with one rank that comes late, for tests: the others are left in MLX's own init, which holds the GIL.

A distribution as it is installed: with this folder on PYTHONPATH, `latering` is a transport plugin like any other.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nova_transport_ring import RingConfig, RingTransport
from nova_transport_ring.endpoint import RingEndpoint
from nova_transport_ring.transport import ipv4_places

from nova.clock import Deadline
from nova.transport.api import Group, Rendezvous, Seat
from nova.transport.network import Place

GO = b"go"
"""What every rank of the ring gathers last, before it calls MLX's init."""


@dataclass(frozen=True)
class LateConfig(RingConfig):
    """Options of `[transport.options.latering]`, beside the ring's."""

    rank: int = field(default=0, metadata={"help": "the rank that is late"})
    late_s: float = field(default=40.0, metadata={"help": "s; by how much"})
    at: Literal["join", "init"] = field(default="init", metadata={"help": "before it joins, or between go and init"})


class LateRing(RingTransport):
    """The ring but for one rank."""

    name = "latering"
    Config = LateConfig

    def open(self, seat: Seat) -> RingEndpoint:
        if seat.rank != self.config.rank:
            return super().open(seat)
        return LateEndpoint(seat, self.config, ipv4_places(seat.hosts))


class LateEndpoint(RingEndpoint):
    """The late rank's."""

    def __init__(self, seat: Seat, config: LateConfig, places: Sequence[Place]) -> None:
        super().__init__(seat, config, places)
        self._late = config

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        if self._late.at == "init":
            return super().join(cards, LateAfterGo(rendezvous, self._late.late_s), deadline)
        threading.Event().wait(self._late.late_s)
        return super().join(cards, rendezvous, deadline)


class LateAfterGo(Rendezvous):
    """The rendezvous of a rank that says go with the others and then does not."""

    def __init__(self, inner: Rendezvous, late_s: float) -> None:
        self._inner = inner
        self._late_s = late_s

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        blobs = self._inner.all_gather(blob, deadline)
        if blob == GO:
            threading.Event().wait(self._late_s)
        return blobs
