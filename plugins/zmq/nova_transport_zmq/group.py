"""Connected ranks: an outlet and an inlet per peer, and one life for all of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping, Sequence

import zmq

from nova.clock import Deadline
from nova.transport.api import Buffer, ByteGroup, Caps, Seat, WritableBuffer
from nova.transport.buffers import flat, writable
from nova.transport.life import Life
from nova_transport_zmq.lane import Inlet, Outlet
from nova_transport_zmq.wire import Wire

SWEEP_S = 1.0
"""Between two looks at the monitors of listening sockets. An idle group would else keep an event for every stranger
that ever came: ZeroMQ holds them without limit, because a full monitor would block its I/O thread."""


def caps(curve: bool) -> Caps:
    """All that a group of bytes can promise; the encryption only with CURVE."""
    every = ~(Caps.ARRAYS | Caps.COLLECTIVES)
    return every if curve else every & ~Caps.ENCRYPTED


class ZmqGroup(ByteGroup):
    """See `nova.transport.api.Group`."""

    def __init__(
        self,
        seat: Seat,
        curve: bool,
        context: zmq.Context[zmq.Socket[bytes]],
        wires: Mapping[tuple[int, int], Wire],
    ) -> None:
        self.rank = seat.rank
        self.size = seat.size
        self.caps = caps(curve)
        self._context = context
        self._wires = list(wires.values())
        self._linger_ms = 0
        # A blocked call polls this beside its socket, because a ZeroMQ socket is no place for a second thread.
        self._bell, self._ear = socket.socketpair()
        self._life = Life(self._wake, self._release)
        self._outlets: dict[int, Outlet] = {}
        self._inlets: dict[int, Inlet] = {}
        for (rank, lane), wire in wires.items():
            outward = (lane == 0) == (rank < seat.rank)  # lane 0 carries from the dialler, who is the higher rank
            if outward:
                self._outlets[rank] = Outlet(wire, rank, self._life, self._ear.fileno())
            else:
                self._inlets[rank] = Inlet(wire, rank, self._life, self._ear.fileno())
        self._over = threading.Event()
        listening = [wire for (rank, _), wire in wires.items() if rank > seat.rank]
        self._sweeper = threading.Thread(target=self._sweep, args=(listening,), name="nova-zmq-sweeper", daemon=True)
        if listening:
            self._sweeper.start()

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        views = [part if type(part) is bytes else flat(part) for part in parts]
        with self._life:
            self._outlets[dst].send(views, deadline)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        inlet, view = self._inlets[src], writable(out)
        if inlet.take(view):  # touches no socket, so it need not be counted as a call in flight
            return
        with self._life:
            inlet.receive(view, deadline)

    def close(self, deadline: Deadline) -> None:
        """Waits until ZeroMQ has handed all that was sent to the kernel, at most until the deadline."""
        self._linger_ms = int(deadline.remaining() * 1000)
        self._life.close()

    def abort(self) -> None:
        self._life.close()

    def _sweep(self, listening: Sequence[Wire]) -> None:
        while not self._over.wait(SWEEP_S):
            for wire in listening:
                wire.sweep()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    def _release(self) -> None:
        self._over.set()
        if self._sweeper.is_alive():
            self._sweeper.join()
        for wire in self._wires:
            wire.close(self._linger_ms)
        self._context.term()
        self._bell.close()
        self._ear.close()
