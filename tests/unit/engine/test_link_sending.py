"""Who sends, and when: large tensors travel while the caller goes on, in order, and whatever goes wrong is told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import pytest

from nova.clock import Deadline
from nova.engine.control import Transfers
from nova.engine.lanes import Lanes
from nova.engine.link import INLINE_BYTES, Limits, Link, LinkFailed, Received
from nova.engine.scheduler import window
from nova.errors import GroupClosed, PeerLost, TransferTimeout
from nova.transport.api import Buffer
from nova.transport.memory import Hub, MemoryGroup
from nova.wire.rows import RowHead
from nova.wire.tensor import Flags, Header, Kind, layout
from tests.unit.engine.ranks import WAIT_S, seat

LARGE = INLINE_BYTES + 4


class Gate(MemoryGroup):
    """Holds each send, with its array if there is one, until it is opened; keeps what was sent and by which thread."""

    def open_up(self) -> None:
        self.opened.release()

    def prepare(self) -> Gate:
        self.opened = threading.Semaphore(0)
        self.inside = threading.Semaphore(0)
        self.sent: list[int] = []
        self.threads: set[int] = set()
        self.error: Exception | None = None
        return self

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        self.inside.release()
        assert self.opened.acquire(timeout=WAIT_S)
        if self.error is not None:
            raise self.error
        self.sent.append(int.from_bytes(bytes(parts[1])[8:12], "little"))  # the first row's position

    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        self.threads.add(threading.get_ident())


class Ends:
    def __init__(self, arrays: bool = False, transfer_s: float = WAIT_S) -> None:
        hub = Hub()
        self.group = Gate(hub, seat(0, 2), 1 << 20).prepare()
        self.peer = MemoryGroup(hub, seat(1, 2), 1 << 20)
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.transfers = Transfers()
        lanes = Lanes(self.group, self.group if arrays else None)
        self.link = Link(lanes, self.inbox, self.transfers, Limits(transfer_s, 1 << 20, 0))
        self.link.start()

    def end(self) -> None:
        self.group.error = GroupClosed("aborted")
        self.group.abort()
        for _ in range(3 * window(2)):
            self.group.open_up()
        for thread in (self.link._thread, self.link._sender):
            thread.join(WAIT_S)
            assert not thread.is_alive()


@pytest.fixture
def ends() -> Iterator[Ends]:
    found = Ends()
    yield found
    found.end()


def chunk(position: int, size: int) -> tuple[Header, mx.array]:
    tensor = mx.zeros((1, size), mx.uint8)
    mx.eval(tensor)
    return Header(layout(Kind.HIDDEN, Flags.NONE, size, "uint8", (1, size)), (RowHead(1, position),)), tensor


def test_a_large_tensor_travels_while_the_caller_goes_on(ends: Ends) -> None:
    ends.link.send(*chunk(0, LARGE))  # it returns, though the gate is shut
    assert ends.group.inside.acquire(timeout=WAIT_S)
    assert ends.group.sent == []
    assert ends.transfers.sending_since is not None
    ends.group.open_up()
    ends.link._outgoing.join()
    assert ends.group.sent == [0]
    assert ends.transfers.sending_since is None


def test_a_small_tensor_waits_behind_a_large_one(ends: Ends) -> None:
    ends.link.send(*chunk(0, LARGE))
    ends.link.send(*chunk(1, 4))
    for _ in range(2):
        ends.group.open_up()
    ends.link._outgoing.join()
    assert ends.group.sent == [0, 1]


def test_a_small_tensor_is_sent_by_the_caller_when_nothing_waits(ends: Ends) -> None:
    ends.group.open_up()
    ends.link.send(*chunk(0, INLINE_BYTES))
    assert ends.group.sent == [0]


def test_the_memory_of_what_a_chunk_was_made_of_is_written_again_only_behind_its_send(ends: Ends) -> None:
    slot = mx.zeros((LARGE,), mx.uint8)
    mx.eval(slot)
    header, _ = chunk(0, LARGE)
    received = Received(header, slot, 0)
    free = ends.link._free.qsize()
    ends.link.send(header, received.array(), received)  # as a stage that passes its input on as it is
    assert ends.group.inside.acquire(timeout=WAIT_S)
    assert ends.link._free.qsize() == free
    ends.group.open_up()
    ends.link._outgoing.join()
    assert ends.link._free.qsize() == free + 1


def test_an_error_behind_the_return_reaches_the_inbox_and_the_next_send(ends: Ends) -> None:
    ends.group.error = lost = PeerLost(1, "gone")
    ends.link.send(*chunk(0, LARGE))
    ends.group.open_up()
    failed = ends.inbox.get(timeout=WAIT_S)
    assert isinstance(failed, LinkFailed)
    assert failed.error is lost
    ends.link._sender.join(WAIT_S)
    with pytest.raises(PeerLost):
        ends.link.send(*chunk(1, 4))


def test_the_end_that_we_made_ourselves_is_no_failure(ends: Ends) -> None:
    ends.group.error = GroupClosed("aborted")
    ends.link.send(*chunk(0, LARGE))
    ends.group.open_up()
    ends.link._sender.join(WAIT_S)
    assert ends.inbox.empty()


def test_a_queue_that_does_not_move_is_given_up_at_the_deadline() -> None:
    ends = Ends(transfer_s=0.05)
    try:
        ends.link.send(*chunk(0, LARGE))
        assert ends.group.inside.acquire(timeout=WAIT_S)  # this one has left the queue
        for position in range(window(2)):
            ends.link.send(*chunk(1 + position, LARGE))
        with pytest.raises(TransferTimeout, match=r"3 chunks wait to be sent to rank 1, and none went in 0\.05 s"):
            ends.link.send(*chunk(9, LARGE))
    finally:
        ends.end()


def test_arrays_are_all_sent_by_one_thread_that_is_not_the_caller_s() -> None:
    ends = Ends(arrays=True)
    try:
        for position, size in enumerate((4, LARGE, 4)):
            ends.group.open_up()
            ends.link.send(*chunk(position, size))
            ends.link._outgoing.join()
        assert ends.group.threads == {ends.link._sender.ident}
    finally:
        ends.end()
