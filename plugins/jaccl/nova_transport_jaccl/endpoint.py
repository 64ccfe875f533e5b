"""Opened, not yet connected: this machine's facts as a card, and the way from all cards to a group."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import msgspec

from nova.clock import Deadline
from nova.errors import FormingFailed, TransportUnavailable
from nova.transport.api import MAX_CARD_BYTES, Endpoint, Group, Rendezvous, Seat
from nova.wire import phases
from nova_transport_jaccl.backend import Backend
from nova_transport_jaccl.errors import NAME, translate
from nova_transport_jaccl.facts import Facts, Record
from nova_transport_jaccl.forming import Forming
from nova_transport_jaccl.ledger import Ledger

UNUSED = "0.0.0.0"
"""MLX wants a coordinator's address also where it does not use one."""


class Card(Record, frozen=True):
    """One rank. JACCL's own TCP side channel, if it is used, meets at rank 0's `host` and `port`."""

    facts: Facts
    host: str
    port: int = 0


class JacclEndpoint(Endpoint):
    """Holds a port of rank 0 for JACCL's own side channel, where MLX cannot use ours."""

    def __init__(self, seat: Seat, facts: Facts, backend: Backend, ledger: Ledger) -> None:
        """Raises TransportUnavailable."""
        self._seat = seat
        self._backend = backend
        self._ledger = ledger
        self._held: socket.socket | None = None
        host, port = next((host for host in seat.hosts if ipaddress.ip_address(host).version == 4), ""), 0
        if seat.rank == 0 and not (facts.mlx and facts.mlx.factory):
            if not host:
                raise TransportUnavailable("JACCL's own side channel needs an IPv4 address in transport.hosts")
            try:
                self._held = socket.create_server((host, 0))
            except OSError as error:
                raise translate(error) from error
            port = self._held.getsockname()[1]
        self._card = msgspec.json.encode(Card(facts, host or UNUSED, port))

    def card(self) -> bytes:
        return self._card

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        """Raises FormingFailed. May outlast the deadline inside MLX, where only SIGTERM ends it."""
        try:
            decoded = [self._decoded(rank, card) for rank, card in enumerate(cards)]
            coordinator = f"{decoded[0].host}:{decoded[0].port}"
            facts = [card.facts for card in decoded]
            forming = Forming(self._seat, self._backend, self._ledger, facts, coordinator)
            return forming.join(rendezvous, deadline, self.close)
        finally:
            self.close()

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _decoded(self, rank: int, card: bytes) -> Card:
        try:
            if len(card) > MAX_CARD_BYTES:
                raise msgspec.DecodeError(f"{len(card)} bytes")
            return msgspec.json.decode(card, type=Card)
        except msgspec.DecodeError as error:
            cause = f"the card of rank {rank} is malformed: {error}"
            raise FormingFailed(phases.JOIN, NAME, self._seat.rank, cause) from error
