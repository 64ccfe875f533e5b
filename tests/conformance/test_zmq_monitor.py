"""What strangers leave at a ZeroMQ socket's monitor is swept away, and the end of the peer's connection is not lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
import zmq
from nova_transport_zmq import ZmqConfig, ZmqTransport
from nova_transport_zmq import group as zmq_group
from nova_transport_zmq.group import ZmqGroup
from nova_transport_zmq.wire import Wire

from nova.errors import PeerLost
from nova.testing.checks import Background, soon
from nova.testing.meeting import Meeting, Place
from nova.testing.rank import Rank
from nova.transport.api import ByteGroup, Caps, Group, Seat

STRANGERS = 200


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ByteGroup, ByteGroup]]:
    """Two ranks of this process."""
    monkeypatch.setattr(zmq_group, "SWEEP_S", 0.02)
    meeting = Meeting(2)

    def join(rank: int) -> Group:
        seat = Seat("monitor", 1, rank, 2, b"t" * 32)
        return Rank(ZmqTransport(ZmqConfig()), seat, Place(meeting, rank), Caps(0)).form()

    first, second = (call.result() for call in [Background(lambda rank=rank: join(rank)) for rank in range(2)])  # type: ignore[misc]
    assert isinstance(first, ByteGroup)
    assert isinstance(second, ByteGroup)
    yield first, second
    first.abort()
    second.abort()


def listening(group: ByteGroup) -> list[Wire]:
    """The wires of rank 0, which all listen."""
    assert isinstance(group, ZmqGroup)
    return group._wires


def until(happened: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.01)


def test_strangers_leave_nothing_at_the_monitors_of_an_idle_group(groups: tuple[ByteGroup, ByteGroup]) -> None:
    first, second = groups
    for wire in listening(first):
        port = int(wire.socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        for _ in range(STRANGERS):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
    until(lambda: all(wire.others >= STRANGERS for wire in listening(first)))
    assert not any(wire.gone for wire in listening(first))
    into = bytearray(2)
    first.send([b"on"], 1, soon())
    second.recv_into(into, 0, soon())
    assert into == b"on"


def test_an_end_that_the_sweep_saw_is_still_a_lost_peer(groups: tuple[ByteGroup, ByteGroup]) -> None:
    first, second = groups
    second.send([b"last"], 0, soon())
    second.close(soon())
    until(lambda: all(wire.gone for wire in listening(first)))
    into = bytearray(4)
    first.recv_into(into, 1, soon())
    assert into == b"last"
    with pytest.raises(PeerLost):
        first.recv_into(into, 1, soon())


def test_an_outlet_whose_end_the_sweep_saw_is_lost_within_the_grace(groups: tuple[ByteGroup, ByteGroup]) -> None:
    first, second = groups
    second.abort()
    until(lambda: all(wire.gone for wire in listening(first)))
    begun = time.monotonic()
    with pytest.raises(PeerLost):
        send_for_ever(first)
    assert time.monotonic() - begun < 2


def send_for_ever(group: ByteGroup) -> None:
    while True:
        group.send([bytes(100)], 1, soon())
