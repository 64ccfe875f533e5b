"""The transport of the forming bench: `tcp`, but for the generations that a fault is to befall."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from nova_transport_tcp import TcpConfig, TcpTransport

from benches.faults import FAIL, HELD_S, Fault, fault, strike
from nova.clock import Deadline
from nova.errors import FormingFailed, TransportUnavailable
from nova.transport.api import Buffer, ByteGroup, Endpoint, Group, Rendezvous, Seat, WritableBuffer
from nova.wire import phases


@dataclass(frozen=True)
class FaultyConfig(TcpConfig):
    """Options of `[transport.options.faulty]`, beside those of tcp."""

    seed: int = field(default=0, metadata={"help": "what the faults are drawn from"})


class FaultyTcp(TcpTransport):
    """tcp with faults in open, join and verify, and while it waits for the cards."""

    name = "faulty"
    Config = FaultyConfig

    def open(self, seat: Seat) -> Endpoint:
        found = fault(self.config.seed, seat.generation, seat.size)
        if found is not None and found.befalls(phases.OPEN, seat.rank):
            if found.how == FAIL:
                raise TransportUnavailable("the bench wants it to fail")
            strike(found.how)
        if found is not None and found.phase == phases.MEET and found.rank != seat.rank:
            threading.Event().wait(HELD_S)
        endpoint = super().open(seat)
        return endpoint if found is None or found.rank != seat.rank else FaultyEndpoint(endpoint, seat, found)


class FaultyEndpoint(Endpoint):
    """The endpoint of the rank that a fault befalls."""

    def __init__(self, inner: Endpoint, seat: Seat, found: Fault) -> None:
        self._inner = inner
        self._seat = seat
        self._fault = found

    def card(self) -> bytes:
        if self._fault.phase == phases.MEET:
            threading.Timer(self._fault.after_s / 2, strike, [self._fault.how]).start()
        return self._inner.card()

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        if self._fault.phase == phases.JOIN:
            if self._fault.how == FAIL:
                raise FormingFailed(phases.JOIN, "faulty", self._seat.rank, "the bench wants it to fail")
            strike(self._fault.how)
        group = self._inner.join(cards, rendezvous, deadline)
        assert isinstance(group, ByteGroup)
        return FaultyGroup(group, self._fault) if self._fault.phase == phases.VERIFY else group

    def close(self) -> None:
        self._inner.close()


class FaultyGroup(ByteGroup):
    """A group whose first transfer is the fault."""

    def __init__(self, inner: ByteGroup, found: Fault) -> None:
        self._inner = inner
        self._fault = found
        self.rank, self.size, self.caps = inner.rank, inner.size, inner.caps

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        strike(self._fault.how)
        self._inner.send(parts, dst, deadline)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        strike(self._fault.how)
        self._inner.recv_into(out, src, deadline)

    def close(self, deadline: Deadline) -> None:
        self._inner.close(deadline)

    def abort(self) -> None:
        self._inner.abort()
