"""Opened, not yet connected: a listener for the higher ranks, and the way from cards to a group."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import msgspec

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Endpoint, Group, Rendezvous, Seat
from nova.transport.network import family
from nova.wire import phases
from nova_transport_tcp.config import TcpConfig
from nova_transport_tcp.errors import NAME, translate
from nova_transport_tcp.forming import Forming
from nova_transport_tcp.group import TcpGroup

BACKLOG = 1024
"""Connections that the kernel holds for us; a flood of strangers must not crowd out the SYN of a peer."""


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an endpoint listens. The last rank does not: nobody dials it."""

    host: str
    port: int


class TcpEndpoint(Endpoint):
    """The higher rank of a pair dials the lower one, so every rank but the last listens."""

    def __init__(self, seat: Seat, config: TcpConfig) -> None:
        """Raises TransportUnavailable."""
        self._seat = seat
        self._config = config
        self._listener: socket.socket | None = None
        port = 0
        if seat.rank < seat.size - 1:
            try:
                self._listener = socket.create_server((seat.hosts[0], 0), family=family(seat.hosts[0]), backlog=BACKLOG)
            except OSError as error:
                raise translate(error) from error
            self._listener.setblocking(False)
            port = self._listener.getsockname()[1]
        self._card = msgspec.json.encode(Card(seat.hosts[0], port))

    def card(self) -> bytes:
        return self._card

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        """Raises FormingFailed, naming the ranks that did not come and why. The listener ends here either way."""
        try:
            targets = {rank: self._address(rank, cards[rank]) for rank in range(self._seat.rank)}
            peers = Forming(self._seat, self._config, self._listener, targets, deadline).run()
        except OSError as error:
            raise translate(error, phase=phases.JOIN, own=self._seat.rank) from error
        finally:
            self.close()
        return TcpGroup(self._seat, peers, self._config.staging_bytes)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _address(self, rank: int, card: bytes) -> tuple[str, int]:
        try:
            decoded = msgspec.json.decode(card, type=Card)
        except msgspec.DecodeError as error:
            cause = f"the card of rank {rank} is malformed: {error}"
            raise FormingFailed(phases.JOIN, NAME, self._seat.rank, cause) from error
        return decoded.host, decoded.port
