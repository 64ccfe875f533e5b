"""Opened, not yet connected: a listener on each address, and the way from cards to a group."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Sequence

import msgspec
import psutil

from nova.clock import Deadline
from nova.errors import FormingFailed, TransportUnavailable
from nova.transport.api import MAX_CARD_BYTES, Endpoint, Group, Rendezvous, Seat
from nova.transport.network import Place
from nova.wire import phases
from nova_transport_ring.config import RingConfig
from nova_transport_ring.errors import NAME, translate
from nova_transport_ring.forming import ONCE, Forming, is_spent
from nova_transport_ring.links import Card, Listener
from nova_transport_ring.meeting import BACKLOG


class RingEndpoint(Endpoint):
    """It listens from the start: the ports are its own then, and neighbours can be told that they are reachable."""

    def __init__(self, seat: Seat, config: RingConfig, places: Sequence[Place]) -> None:
        """`places` are this node's IPv4 addresses, best first. Raises TransportUnavailable."""
        self._seat = seat
        self._config = config
        self._listeners: list[socket.socket] = []
        if is_spent():
            raise TransportUnavailable(ONCE)
        try:
            for place in places:
                self._listeners.append(_listen(place.host, config.port_range))
        except OSError as error:
            self.close()
            raise translate(error) from error
        except TransportUnavailable:
            self.close()
            raise
        ports = [listener.getsockname()[1] for listener in self._listeners]
        speeds = {name: stats.speed for name, stats in psutil.net_if_stats().items()}
        listeners = [
            Listener(place.host, place.domain, port, speeds.get(place.interface, 0))
            for place, port in zip(places, ports, strict=True)
        ]
        self._card = msgspec.json.encode(Card(listeners))

    def card(self) -> bytes:
        return self._card

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        """Raises FormingFailed. May outlast the deadline inside MLX, where only a signal ends it."""
        try:
            if not self._listeners:
                raise self._failed("this endpoint is closed")
            if len(cards) != self._seat.size or self._seat.size < 2:
                raise self._failed(f"{len(cards)} cards for {self._seat.size} ranks; a ring has two ranks at least")
            decoded = [self._decoded(rank, card) for rank, card in enumerate(cards)]
            return Forming(self._seat, self._config, decoded).run(self._listeners, rendezvous, deadline)
        finally:
            self.close()

    def close(self) -> None:
        while self._listeners:
            self._listeners.pop().close()

    def _decoded(self, rank: int, card: bytes) -> Card:
        try:
            if len(card) > MAX_CARD_BYTES:
                raise msgspec.DecodeError(f"{len(card)} bytes")
            return msgspec.json.decode(card, type=Card)
        except msgspec.DecodeError as error:
            raise self._failed(f"the card of rank {rank} is malformed: {error}") from error

    def _failed(self, cause: str) -> FormingFailed:
        return FormingFailed(phases.JOIN, NAME, self._seat.rank, cause)


def _listen(host: str, ports: range) -> socket.socket:
    """A listener on a free one of `ports`. Raises OSError, or TransportUnavailable when none is free.

    In random order, because a port is let go for a moment before MLX takes it: no other engine that is being
    formed on this machine should try just that one.
    """
    for port in random.sample(ports, len(ports)):
        try:
            return socket.create_server((host, port), backlog=BACKLOG)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise TransportUnavailable(
        f"no port of {ports[0]}-{ports[-1]} is free on {host}: choose others by transport.options.ring.ports"
    )
