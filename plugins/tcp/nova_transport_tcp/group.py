"""Connected ranks: one lane per peer, and one life for all of them."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from nova.clock import Deadline
from nova.transport.api import Buffer, Caps, Group, Seat, WritableBuffer
from nova.transport.buffers import flat, writable
from nova.transport.life import Life
from nova_transport_tcp.lane import Lane

CAPS = ~Caps.ENCRYPTED


class TcpGroup(Group):
    """See `nova.transport.api.Group`."""

    caps = CAPS

    def __init__(self, seat: Seat, peers: Mapping[int, socket.socket], staging_bytes: int) -> None:
        self.rank = seat.rank
        self.size = seat.size
        self._life = Life(self._shut, self._release)
        self._lanes = {rank: Lane(sock, rank, self._life, staging_bytes) for rank, sock in peers.items()}

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        views = [part if type(part) is bytes else flat(part) for part in parts]
        with self._life:
            self._lanes[dst].send(views, deadline)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        lane, view = self._lanes[src], writable(out)
        if lane.take(view):  # touches no socket, so it need not be counted as a call in flight
            return
        with self._life:
            lane.receive(view, deadline)

    def close(self, deadline: Deadline) -> None:
        """Does not wait: what was sent is the kernel's already, and it delivers also after the process has ended."""
        self._life.close()

    def abort(self) -> None:
        self._life.close()

    def _shut(self) -> None:
        for lane in self._lanes.values():
            lane.shut()

    def _release(self) -> None:
        for lane in self._lanes.values():
            lane.close()
