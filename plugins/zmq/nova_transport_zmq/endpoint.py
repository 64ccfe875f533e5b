"""Opened, not yet connected: listening sockets for the higher ranks, and the way from cards to a group."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import zmq

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Endpoint, Group, Rendezvous, Seat
from nova.wire import phases
from nova_transport_zmq.config import ZmqConfig
from nova_transport_zmq.errors import NAME, translate
from nova_transport_zmq.forming import Card, Forming
from nova_transport_zmq.group import ZmqGroup
from nova_transport_zmq.wire import LANES, Wire
from nova_transport_zmq.zap import Doorman


class ZmqEndpoint(Endpoint):
    """The higher rank of a pair dials the lower one, which has a port for each direction."""

    def __init__(self, seat: Seat, config: ZmqConfig) -> None:
        """Raises TransportUnavailable."""
        self._seat = seat
        self._config = config
        self._context: zmq.Context[zmq.Socket[bytes]] | None = zmq.Context(config.io_threads)
        self._keys = zmq.curve_keypair() if config.curve else None
        self._wires: dict[tuple[int, int], Wire] = {}
        ports: dict[int, tuple[int, ...]] = {}
        try:
            self._doorman = Doorman(self._context)
            for rank in range(seat.rank + 1, seat.size):
                ports[rank] = tuple(self._listen(self._context, rank, lane) for lane in range(LANES))
        except zmq.ZMQError as error:
            self.close()
            raise translate(error) from error
        key = self._keys[0].decode() if self._keys else ""
        self._card = msgspec.json.encode(Card(seat.hosts[0], key, ports))

    def card(self) -> bytes:
        return self._card

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        """Raises FormingFailed, naming the ranks that did not come and why. Nobody can connect afterwards."""
        if self._context is None:
            raise FormingFailed(phases.JOIN, NAME, self._seat.rank, "the endpoint is closed")
        try:
            known = {rank: self._read(rank, card) for rank, card in enumerate(cards)}
            forming = Forming(self._seat, self._config, self._context, self._keys, self._doorman, self._wires, known)
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

    def _listen(self, context: zmq.Context[zmq.Socket[bytes]], rank: int, lane: int) -> int:
        wire = self._wires[rank, lane] = Wire(context, self._config, self._seat.hosts[0])
        return wire.listen(self._seat.hosts[0], f"{rank}.{lane}", self._keys[1] if self._keys else None)

    def _read(self, rank: int, card: bytes) -> Card:
        try:
            return msgspec.json.decode(card, type=Card)
        except msgspec.DecodeError as error:
            cause = f"the card of rank {rank} is malformed: {error}"
            raise FormingFailed(phases.JOIN, NAME, self._seat.rank, cause) from error
