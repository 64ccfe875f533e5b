"""Opened, not yet connected: listeners for the higher ranks, and the way from cards to a group."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Endpoint, Group, Rendezvous, Seat
from nova.transport.dialling import sockaddr
from nova.transport.network import family, places
from nova.transport.routes import MAX_ADDRESSES, Address, Course, routes
from nova.wire import phases
from nova_transport_tcp.config import TcpConfig
from nova_transport_tcp.errors import NAME, translate
from nova_transport_tcp.forming import Forming, Peer
from nova_transport_tcp.group import TcpGroup

log = structlog.get_logger(__name__)

BACKLOG = 1024
"""Connections that the kernel holds for us; a flood of strangers must not crowd out the SYN of a peer."""


class Listener(Address, frozen=True, forbid_unknown_fields=True):
    """An address at which an endpoint listens."""

    port: Annotated[int, Meta(ge=1, le=65535)]


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an endpoint listens, best first. The last rank does not: nobody dials it."""

    listeners: Annotated[list[Listener], Meta(max_length=MAX_ADDRESSES)]


class TcpEndpoint(Endpoint):
    """The higher rank of a pair dials the lower one, so every rank but the last listens, at each of its addresses."""

    def __init__(self, seat: Seat, config: TcpConfig) -> None:
        """Raises TransportUnavailable when no address of the seat can be used."""
        self._seat = seat
        self._config = config
        self._own = [Address(each.host, each.domain) for each in places(seat.hosts[:MAX_ADDRESSES])]
        self._listeners: list[socket.socket] = []
        listening = self._listen() if seat.rank < seat.size - 1 else []
        self._card = msgspec.json.encode(Card(listening))

    def card(self) -> bytes:
        return self._card

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        """Raises FormingFailed, naming the ranks that did not come and why. The listeners end here either way."""
        try:
            lower = {rank: self._peer(rank, cards[rank], deadline) for rank in range(self._seat.rank)}
            peers = Forming(self._seat, self._config, self._listeners, lower, deadline).run()
        except OSError as error:
            raise translate(error, phase=phases.JOIN, own=self._seat.rank) from error
        finally:
            self.close()
        return TcpGroup(self._seat, peers, self._config.staging_bytes)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _listen(self) -> list[Listener]:
        """Take a free port at every address that still is ours. Raises TransportUnavailable when none is."""
        listening: list[Listener] = []
        failure: OSError | None = None
        for each in self._own:
            sock = socket.socket(family(each.host), socket.SOCK_STREAM)
            try:
                sock.bind(sockaddr(each.host, 0))
                sock.listen(BACKLOG)
            except OSError as error:
                sock.close()
                failure = error
                log.warning("cannot listen", transport=NAME, host=each.host, reason=error.strerror)
                continue
            sock.setblocking(False)
            self._listeners.append(sock)
            listening.append(Listener(each.host, each.domain, sock.getsockname()[1]))
        if failure is not None and not listening:
            raise translate(failure) from failure
        return listening

    def _peer(self, rank: int, card: bytes, deadline: Deadline) -> Peer:
        try:
            listeners = msgspec.json.decode(card, type=Card).listeners
        except msgspec.DecodeError as error:
            raise self._failed(f"the card of rank {rank} is malformed: {error}") from error
        ways = routes(self._own, listeners)
        if not ways:
            theirs, ours = (", ".join(sorted({each.domain for each in every})) for every in (listeners, self._own))
            raise self._failed(f"rank {rank} shares no network with this one: it is on {theirs}, this one on {ours}")
        return Peer(Course(ways, deadline), {each.host: each.port for each in listeners})

    def _failed(self, cause: str) -> FormingFailed:
        return FormingFailed(phases.JOIN, NAME, self._seat.rank, cause)
