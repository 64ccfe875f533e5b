"""Connected ranks: one lane per peer, and one life for all of them."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from nova.clock import Deadline
from nova.transport.api import Buffer, ByteGroup, Caps, Seat, WritableBuffer
from nova.transport.life import Life
from nova_transport_tcp.lane import Lane

CAPS = ~(Caps.ENCRYPTED | Caps.ARRAYS | Caps.COLLECTIVES)


class TcpGroup(ByteGroup):
    """See `nova.transport.api.Group`."""

    caps = CAPS

    def __init__(self, seat: Seat, peers: Mapping[int, socket.socket], staging_bytes: int) -> None:
        self.rank = seat.rank
        self.size = seat.size
        self._life = Life(self._shut, self._release)
        self._lanes = {rank: Lane(sock, rank, self._life, staging_bytes) for rank, sock in peers.items()}

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        self._lanes[dst].send(parts, deadline)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        self._lanes[src].receive(out, deadline)

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
