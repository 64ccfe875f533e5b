"""What crosses the wire of an ENCRYPTED transport hides the text, and that of another does not.

The kit cannot look into a connection, because cards are opaque to it. Here they are not: every connection of `zmq`
goes through a relay that keeps what it sees.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import pytest
from nova_transport_zmq import ZmqConfig, ZmqTransport
from nova_transport_zmq.card import Card

from nova.testing.checks import Background, soon
from nova.testing.meeting import Meeting, Place
from nova.testing.rank import Rank
from nova.transport.api import ByteGroup, Caps, Seat

TEXT = b"The capital of France is Paris. " * 64
WAIT_S = 10.0


@dataclass
class Relay:
    """Listens in front of a port, passes everything on, and keeps it."""

    target: tuple[str, int]
    seen: bytearray = field(default_factory=bytearray)
    sockets: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sockets.append(self.listener)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.target, timeout=WAIT_S)
                far.settimeout(None)
                self.sockets += (near, far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either end closed
            while data := source.recv(65_536):
                self.seen += data
                sink.sendall(data)

    def close(self) -> None:
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextlib.contextmanager
def relayed(card: bytes) -> Iterator[tuple[bytes, list[Relay]]]:
    """The card with a relay in front of each of its ports."""
    decoded = msgspec.json.decode(card, type=Card)
    relays: list[Relay] = []

    def front(host: str, port: int) -> int:
        relays.append(Relay((host, port)))
        return relays[-1].port

    listeners = [
        msgspec.structs.replace(
            each, ports={rank: tuple(front(each.host, port) for port in ports) for rank, ports in each.ports.items()}
        )
        for each in decoded.listeners
    ]
    try:
        yield msgspec.json.encode(msgspec.structs.replace(decoded, listeners=listeners)), relays
    finally:
        for relay in relays:
            relay.close()


@pytest.mark.parametrize("curve", [True, False])
def test_the_text_of_a_part_is_on_the_wire_only_without_encryption(curve: bool) -> None:
    transport, meeting = ZmqTransport(ZmqConfig(curve=curve)), Meeting(2)
    ranks = [Rank(transport, Seat("wire", 1, rank, 2, b"t" * 32), Place(meeting, rank), Caps(0)) for rank in range(2)]
    endpoints = [rank.open() for rank in ranks]
    with relayed(endpoints[0].card()) as (card, relays):
        cards = [card, endpoints[1].card()]
        joins = [
            Background(lambda rank=rank, endpoint=endpoint: rank.join(endpoint, cards))  # type: ignore[misc]
            for rank, endpoint in zip(ranks, endpoints, strict=True)
        ]
        first, second = (join.result(WAIT_S) for join in joins)
        assert isinstance(first, ByteGroup)
        assert isinstance(second, ByteGroup)
        for source, sink in ((first, second), (second, first)):
            source.send([TEXT], sink.rank, soon())
            sink.recv_into(out := bytearray(len(TEXT)), source.rank, soon())
            assert out == TEXT
        for rank in ranks:
            rank.undo.close()
        wire = b"".join(bytes(relay.seen) for relay in relays)
    assert len(wire) > 2 * len(TEXT), "the relays saw the parts pass"
    assert (TEXT[:31] in wire) == (not curve)
    assert (Caps.ENCRYPTED in transport.probe(["127.0.0.1"]).caps) == curve
