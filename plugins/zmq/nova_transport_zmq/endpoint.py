"""Opened, not yet connected: listening sockets for the higher ranks, and the way from cards to a group."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import structlog
import zmq

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Endpoint, Group, Rendezvous, Seat
from nova.transport.network import places
from nova.transport.routes import MAX_ADDRESSES, Address, Course, routes
from nova.wire import phases
from nova_transport_zmq.card import Card, Listener
from nova_transport_zmq.config import ZmqConfig
from nova_transport_zmq.errors import NAME, translate
from nova_transport_zmq.forming import Forming
from nova_transport_zmq.group import ZmqGroup
from nova_transport_zmq.wire import LANES, Wire
from nova_transport_zmq.zap import Doorman

log = structlog.get_logger(__name__)


class ZmqEndpoint(Endpoint):
    """The higher rank of a pair dials the lower one, which has a port for each direction at each of its addresses."""

    def __init__(self, seat: Seat, config: ZmqConfig) -> None:
        """Raises TransportUnavailable when no address of the seat can be used."""
        self._seat = seat
        self._config = config
        self._own = [Address(each.host, each.domain) for each in places(seat.hosts[:MAX_ADDRESSES])]
        self._context: zmq.Context[zmq.Socket[bytes]] | None = zmq.Context(config.io_threads)
        self._keys = zmq.curve_keypair() if config.curve else None
        self._wires: dict[tuple[int, int], Wire] = {}
        try:
            self._doorman = Doorman(self._context)
            listening = self._listen(self._context) if seat.rank < seat.size - 1 else []
        except zmq.ZMQError as error:
            self.close()
            raise translate(error) from error
        key = self._keys[0].decode() if self._keys else ""
        self._card = msgspec.json.encode(Card(key, listening))

    def card(self) -> bytes:
        return self._card

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        """Raises FormingFailed, naming the ranks that did not come and why. Nobody can connect afterwards."""
        if self._context is None:
            raise self._failed("the endpoint is closed")
        try:
            known = {rank: self._read(rank, card) for rank, card in enumerate(cards)}
            courses = {rank: self._course(rank, known[rank], deadline) for rank in range(self._seat.rank)}
            forming = Forming(
                self._seat, self._config, self._context, self._keys, self._doorman, self._wires, known, courses
            )
            forming.run(deadline)
            group = ZmqGroup(self._seat, self._config.curve, self._context, self._wires)
        except zmq.ZMQError as error:
            raise translate(error, phase=phases.JOIN, own=self._seat.rank) from error
        else:
            self._doorman.close()
            self._context, self._wires = None, {}  # they are the group's now
            return group
        finally:
            self.close()

    def close(self) -> None:
        if self._context is not None:
            for wire in self._wires.values():
                wire.close()
            self._context.destroy(linger=0)
            self._context = None

    def _listen(self, context: zmq.Context[zmq.Socket[bytes]]) -> list[Listener]:
        """Sockets for the higher ranks, at every address that still is ours. Raises ZMQError when none is."""
        higher = range(self._seat.rank + 1, self._seat.size)
        for rank, lane in itertools.product(higher, range(LANES)):
            self._wires[rank, lane] = wire = Wire(context, self._config)
            wire.guard(f"{rank}.{lane}", self._keys[1] if self._keys else None)
        listening: list[Listener] = []
        failure: zmq.ZMQError | None = None
        for each in self._own:
            try:
                ports = {rank: (self._at(rank, 0, each.host), self._at(rank, 1, each.host)) for rank in higher}
            except zmq.ZMQError as error:
                failure = error
                log.warning("cannot listen", transport=NAME, host=each.host, reason=error.strerror)
            else:
                listening.append(Listener(each.host, each.domain, ports))
        if failure is not None and not listening:
            raise failure
        return listening

    def _at(self, rank: int, lane: int, host: str) -> int:
        return self._wires[rank, lane].listen(host)

    def _course(self, rank: int, card: Card, deadline: Deadline) -> Course:
        ways = routes(self._own, card.listeners)
        if not ways:
            theirs, ours = (", ".join(sorted({each.domain for each in every})) for every in (card.listeners, self._own))
            raise self._failed(f"rank {rank} shares no network with this one: it is on {theirs}, this one on {ours}")
        return Course(ways, deadline)

    def _read(self, rank: int, card: bytes) -> Card:
        try:
            return msgspec.json.decode(card, type=Card)
        except msgspec.DecodeError as error:
            raise self._failed(f"the card of rank {rank} is malformed: {error}") from error

    def _failed(self, cause: str) -> FormingFailed:
        return FormingFailed(phases.JOIN, NAME, self._seat.rank, cause)
