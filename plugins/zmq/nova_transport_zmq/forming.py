"""One join: dial the lower ranks, admit the higher ones, until every socket carries a proven peer.

One poll loop drives all sockets, their monitors and the doorman. Strangers end at the doorman; who passes it and
then fails the ticket's proof is a peer with a wrong ticket, and that ends the join with this reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import structlog
import zmq

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Seat
from nova.transport.routes import Course
from nova.transport.ticket import Admitted, Handshake, Stranger, admit, greet
from nova.wire import phases
from nova_transport_zmq.card import Card
from nova_transport_zmq.config import ZmqConfig
from nova_transport_zmq.dial import Dial, way_of
from nova_transport_zmq.errors import NAME
from nova_transport_zmq.wire import LANES, Wire, password
from nova_transport_zmq.zap import Doorman, credential

log = structlog.get_logger(__name__)

REDIAL_S = 0.02
"""Pause before a failed connection is dialled again."""

Lane = tuple[int, int]
"""The peer's rank, and which of the pair's two sockets."""


class Forming:
    """The state of one join; `run` once. `wires` has the listening sockets and gains the dialled ones."""

    def __init__(
        self,
        seat: Seat,
        config: ZmqConfig,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: tuple[bytes, bytes] | None,
        doorman: Doorman,
        wires: dict[Lane, Wire],
        cards: Mapping[int, Card],
        courses: Mapping[int, Course],
    ) -> None:
        self._seat = seat
        self._config = config
        self._context = context
        self._keys = keys
        self._doorman = doorman
        self._wires = wires
        self._cards = cards
        self._courses = courses
        self._dials: dict[Lane, Dial] = {}
        self._ways: dict[Lane, str] = {}  # over which addresses and interface each proven lane goes
        self._poller = zmq.Poller()
        self._owner: dict[zmq.Socket[bytes], Lane] = {}
        self._steps: dict[Lane, Handshake] = {}
        self._need: dict[Lane, int] = {}
        self._redials: dict[Lane, Deadline] = {}
        self._proven: set[Lane] = set()
        self._strangers = 0

    def run(self, deadline: Deadline) -> None:
        """Raises FormingFailed or ZMQError; closing the wires is the caller's."""
        for rank, card in self._cards.items():
            if bool(card.key) != bool(self._keys):
                raise self._failed(f"rank {rank} and this one differ in the option curve")
        awaited = self._awaited()
        self._poller.register(self._doorman.socket, zmq.POLLIN)
        for lane in self._wires:
            self._watch(lane)
        for rank in range(self._seat.rank):
            for number in range(LANES):
                self._dial((rank, number))
        while len(self._proven) < LANES * (self._seat.size - 1):
            if deadline.expired:
                raise self._failed(self._missing())
            for lane in [lane for lane, when in self._redials.items() if when.expired]:
                self._dial(lane)
            for lane, dial in list(self._dials.items()):
                if dial.until is not None and dial.until.expired:
                    self._lose(lane, dial.silence())
            patience = [dial.until for dial in self._dials.values() if dial.until is not None]
            left = min(wait.remaining() for wait in (deadline, *self._redials.values(), *patience))
            for socket, _ in self._poller.poll(math.ceil(left * 1000)):
                if socket is self._doorman.socket:
                    self._doorman.answer(awaited)
                elif socket in self._owner:  # not replaced meanwhile
                    self._turn(socket, self._owner[socket])
        if strangers := self._strangers + self._doorman.refused:
            log.warning("strangers dropped", transport=NAME, count=strangers)
        peers = {rank: {self._ways[rank, lane] for lane in range(LANES)} for rank, _ in sorted(self._ways)}
        log.info("connected", transport=NAME, **{f"rank_{rank}": "; ".join(sorted(peers[rank])) for rank in peers})

    def _awaited(self) -> dict[str, bytes]:
        """The credential of each ZAP domain, which is one listening socket."""
        own = self._seat.rank
        return {
            f"{rank}.{lane}": credential(self._cards[rank].key)
            if self._keys
            else password(self._seat, rank, own, lane).encode()
            for rank, lane in self._wires
        }

    def _dial(self, lane: Lane) -> None:
        self._redials.pop(lane, None)
        rank, number = lane
        card, course = self._cards[rank], self._courses[rank]
        port = card.port(course.route.target, self._seat.rank, number)
        if port is None:
            raise self._failed(f"the card of rank {rank} has no ports for this rank")
        self._dials[lane] = Dial(course.route, port, Deadline.after(course.patience()))
        wire = self._wires[lane] = Wire(self._context, self._config)
        words = str(self._seat.rank), password(self._seat, self._seat.rank, rank, number)
        wire.dial(course.route, port, (card.key.encode(), *self._keys) if self._keys else words)
        self._watch(lane)

    def _watch(self, lane: Lane) -> None:
        """Follow a new socket; a dialled one says hello, which waits inside it for the connection."""
        wire = self._wires[lane]
        for socket in (wire.socket, wire.monitor):
            self._owner[socket] = lane
            self._poller.register(socket, zmq.POLLIN)
        self._begin(lane)

    def _begin(self, lane: Lane) -> None:
        rank, number = lane
        self._proven.discard(lane)
        self._wires[lane].fd = -1
        dialled = rank < self._seat.rank
        self._steps[lane] = greet(self._seat, rank, number) if dialled else admit(self._seat, {rank}, LANES)
        self._step(lane, None)

    def _turn(self, socket: zmq.Socket[bytes], lane: Lane) -> None:
        wire = self._wires[lane]
        if socket is wire.monitor:
            self._judge(lane, wire)
            return
        if lane in self._proven:  # the peer is ahead: its first parts wait for the group
            self._poller.unregister(socket)
            return
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        wire.fd = int(frame.get(zmq.SRCFD))
        if lane in self._dials:  # it may count us as connected from here on, so another route would only confuse it
            self._dials[lane].until = None
        if len(frame) != self._need[lane]:
            raise self._failed(f"rank {lane[0]} sent {len(frame)} bytes for its proof")
        self._step(lane, frame.bytes)

    def _step(self, lane: Lane, data: bytes | None) -> None:
        """Take a handshake to its next wait, or to its end."""
        try:
            while True:
                out, self._need[lane] = self._steps[lane].send(data)  # type: ignore[arg-type]  # None starts it
                if out:
                    self._wires[lane].socket.send(out, zmq.NOBLOCK)
                if self._need[lane]:
                    return
                data = b""
        except StopIteration as done:
            if done.value != Admitted(*lane):
                raise self._failed(f"rank {lane[0]} dialled the port of another lane") from None
            self._proven.add(lane)
            self._ways[lane] = way_of(self._wires[lane].fd)
        except Stranger as reason:
            raise self._failed(str(reason)) from reason

    def _judge(self, lane: Lane, wire: Wire) -> None:
        """Read a monitor: a dialled connection that failed is dialled again, a proven one that ended starts anew."""
        for event, value in wire.events():
            if lane[0] > self._seat.rank:
                if event == zmq.Event.DISCONNECTED and value == wire.fd:
                    self._begin(lane)
                elif event != zmq.Event.DISCONNECTED:
                    self._strangers += event != zmq.Event.HANDSHAKE_FAILED_AUTH  # those, the doorman has counted
            elif event == zmq.Event.CONNECTED:
                self._dials[lane].connected = True
            elif event == zmq.Event.HANDSHAKE_FAILED_AUTH:
                raise self._failed(f"rank {lane[0]} refused us: the tickets or keys differ")
            else:
                self._lose(lane, self._dials[lane].ended(event))
                return

    def _lose(self, lane: Lane, reason: str) -> None:
        wire = self._wires.pop(lane)
        for socket in (wire.socket, wire.monitor):
            del self._owner[socket]
            if socket in self._poller:
                self._poller.unregister(socket)
        self._proven.discard(lane)
        self._ways.pop(lane, None)
        wire.close()
        self._courses[lane[0]].failed(self._dials.pop(lane).route, reason)
        self._redials[lane] = Deadline.after(REDIAL_S)

    def _missing(self) -> str:
        proven = {rank for rank in range(self._seat.size) if all((rank, lane) in self._proven for lane in range(LANES))}
        absent = [rank for rank in range(self._seat.size) if rank != self._seat.rank and rank not in proven]
        for lane, dial in self._dials.items():
            if lane not in self._proven:
                self._courses[lane[0]].pending(dial.route, dial.silence())
        whys = {rank: course.why() for rank, course in self._courses.items()}
        says = [f"rank {rank} ({whys[rank]})" if whys.get(rank) else f"rank {rank}" for rank in absent]
        strangers = self._strangers + self._doorman.refused
        return f"{', '.join(says)} did not connect in time" + (f"; {strangers} strangers dropped" if strangers else "")

    def _failed(self, cause: str) -> FormingFailed:
        return FormingFailed(phases.JOIN, NAME, self._seat.rank, cause)
