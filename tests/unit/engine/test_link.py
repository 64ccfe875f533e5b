"""Chunks over a group: tensors arrive equal to the bit, slots are not written while in use, every end is told."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import pytest

from nova.clock import Deadline
from nova.engine.control import Transfers
from nova.engine.lanes import Lanes
from nova.engine.link import MAX_WAITING, Limits, Link, LinkFailed, Received, bytes_of
from nova.engine.scheduler import window
from nova.errors import LengthMismatch, PeerLost, ProtocolError, TransferTimeout, TransportFault
from nova.transport.api import Buffer, WritableBuffer
from nova.transport.memory import Hub, MemoryGroup
from nova.wire.rows import RowHead
from nova.wire.tensor import DTYPE_SIZES, HEADER_BYTES, Flags, Header, Kind, layout
from tests.unit.engine.ranks import WAIT_S, groups, seat

LIMIT = 4096


@dataclass
class Pair:
    """Rank 0 sends, rank 1 listens."""

    sender: Link
    receiver: Link
    peer: MemoryGroup
    inbox: queue.SimpleQueue[object]

    def get(self) -> Received:
        got = self.inbox.get(timeout=WAIT_S)
        assert isinstance(got, Received), got
        return got

    def failure(self) -> LinkFailed:
        got = self.inbox.get(timeout=WAIT_S)
        assert isinstance(got, LinkFailed)
        return got


@pytest.fixture
def pair() -> Iterator[Pair]:
    first, second = groups(2)
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
    receiver = Link(Lanes(second), inbox, Transfers(), Limits(5.0, LIMIT, 0))
    receiver.start()
    sender = Link(Lanes(first), queue.SimpleQueue(), Transfers(), Limits(5.0, LIMIT, 0))
    sender.start()
    yield Pair(sender, receiver, first, inbox)
    second.abort()
    first.abort()
    for link in (sender, receiver):
        for thread in (link._thread, link._sender):
            thread.join(WAIT_S)
            assert not thread.is_alive()


def header(tensor: mx.array, dtype: str, position: int = 0) -> Header:
    """Of a tensor [1, width, ...]."""
    shape = tuple(tensor.shape)
    return Header(layout(Kind.HIDDEN, Flags.NONE, shape[1], dtype, shape), (RowHead(1, position),))


DROP = Header(layout(Kind.HIDDEN, Flags.DROP, 0, "uint32", (0,)), (RowHead(1, 0),))
NOTHING = mx.zeros((0,), mx.uint32)


def pattern(dtype: str) -> mx.array:
    """[1, 3, 8] of distinct bits, NaNs and infinities among them."""
    size = DTYPE_SIZES[dtype]
    low = 2 if dtype == "bool_" else 256
    raw = (mx.arange(24 * size) * 37 + 11) % low
    tensor = raw.astype(mx.uint8).view(getattr(mx, dtype)).reshape(1, 3, 8)
    mx.eval(tensor)
    return tensor


@pytest.mark.parametrize("dtype", sorted(DTYPE_SIZES))
def test_a_tensor_of_every_dtype_arrives_equal_to_the_bit(pair: Pair, dtype: str) -> None:
    sent = pattern(dtype)
    pair.sender.send(header(sent, dtype), sent)
    got = pair.get()
    assert got.header == header(sent, dtype)
    assert got.array().dtype == sent.dtype
    assert got.array().shape == sent.shape
    assert bytes(bytes_of(got.array())) == bytes(bytes_of(sent))


def test_a_chunk_without_a_payload_is_a_header_alone(pair: Pair) -> None:
    pair.sender.send(DROP, NOTHING)
    assert pair.get().header == DROP


def test_a_smaller_tensor_after_a_larger_one_in_the_same_slot_has_its_own_length(pair: Pair) -> None:
    for width in (64, 3, 64, 1) * window(2):
        sent = mx.arange(width).reshape(1, width)
        mx.eval(sent)
        pair.sender.send(header(sent, "int32"), sent)
        got = pair.get()
        assert mx.array_equal(got.array(), sent)
        pair.receiver.release(got)


def test_a_strided_array_is_refused_and_nothing_is_sent(pair: Pair) -> None:
    strided = mx.arange(12).reshape(1, 3, 4).swapaxes(1, 2)
    mx.eval(strided)
    with pytest.raises(BufferError):
        pair.sender.send(header(strided, "int32"), strided)
    whole = mx.arange(2).reshape(1, 2)
    mx.eval(whole)
    pair.sender.send(header(whole, "int32", position=7), whole)
    assert pair.get().header.rows == (RowHead(1, 7),)


def test_a_slot_is_written_again_only_after_its_release(pair: Pair) -> None:
    for position in range(2 * window(2)):
        tensor = mx.full((1, 16), position, mx.int32)
        mx.eval(tensor)
        pair.sender.send(header(tensor, "int32", position), tensor)
    held = [pair.get() for _ in range(window(2))]
    with pytest.raises(queue.Empty):
        pair.inbox.get(timeout=0.05)
    for following in range(window(2), 2 * window(2)):
        assert [chunk.array().tolist() for chunk in held] == [[[chunk.header.rows[0].position] * 16] for chunk in held]
        pair.receiver.release(held.pop(0))
        held.append(pair.get())
        assert held[-1].header.rows[0].position == following


@pytest.mark.parametrize(
    ("part", "error", "why"),
    [
        (b"x" * HEADER_BYTES, ProtocolError, "begins with"),
        (b"x", LengthMismatch, "sent 1 bytes"),
        (
            Header(layout(Kind.HIDDEN, Flags.NONE, LIMIT + 1, "uint8", (1, LIMIT + 1)), (RowHead(1, 0),)).pack(),
            ProtocolError,
            f"limit is {LIMIT}",
        ),
    ],
)
def test_a_malformed_header_ends_the_link_with_its_reason(
    pair: Pair, part: bytes, error: type[Exception], why: str
) -> None:
    pair.peer.send([part], 1, Deadline.after(1.0))
    failure = pair.failure()
    assert isinstance(failure.error, error)
    assert why in str(failure.error)


class Hostile(MemoryGroup):
    """Raises `error` in every call."""

    error: BaseException

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        raise self.error

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        raise self.error


def hostile(error: BaseException) -> tuple[Link, queue.SimpleQueue[object]]:
    """A link over a group that raises."""
    group = Hostile(Hub(), seat(0, 2), 1 << 20)
    group.error = error
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
    return Link(Lanes(group), inbox, Transfers(), Limits(5.0, LIMIT, 0)), inbox


FOREIGN = [ValueError("what"), SystemExit(0), KeyboardInterrupt(), GeneratorExit()]


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
def test_whatever_a_transport_raises_in_a_receive_ends_the_link_with_it(error: BaseException) -> None:
    link, inbox = hostile(error)
    link.start()
    got = inbox.get(timeout=WAIT_S)
    assert isinstance(got, LinkFailed)
    assert isinstance(got.error, TransportFault)
    assert str(got.error).startswith(f"the transport raised {type(error).__name__}")
    assert str(got.error).endswith("in a receive from rank 1")


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
def test_whatever_a_transport_raises_in_a_send_is_an_error_of_the_engine(error: BaseException) -> None:
    link, _ = hostile(error)
    with pytest.raises(TransportFault, match=rf"^the transport raised {type(error).__name__}.* in a send to rank 1$"):
        link.send(DROP, NOTHING)


def test_a_transport_s_own_errors_are_passed_on_as_they_are() -> None:
    link, inbox = hostile(lost := PeerLost(1, "gone"))
    with pytest.raises(PeerLost) as told:
        link.send(DROP, NOTHING)
    assert told.value is lost
    link.start()
    got = inbox.get(timeout=WAIT_S)
    assert isinstance(got, LinkFailed)
    assert got.error is lost


def test_a_timeout_before_the_deadline_ends_the_link_instead_of_being_asked_again_for_ever() -> None:
    link, inbox = hostile(TransferTimeout("too late"))
    link.start()
    got = inbox.get(timeout=WAIT_S)
    assert isinstance(got, LinkFailed)
    assert str(got.error) == "the transport gave up before its deadline: too late"


def test_a_flood_of_chunks_without_a_tensor_ends_the_link(pair: Pair) -> None:
    for _ in range(MAX_WAITING + 1):
        pair.sender.send(DROP, NOTHING)
    pair.receiver._thread.join(WAIT_S)
    for _ in range(MAX_WAITING):
        pair.get()
    assert isinstance(pair.failure().error, TransportFault)


class Careless(MemoryGroup):
    """Gives another array than the one that came."""

    careless: Callable[[mx.array], mx.array]

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        return self.careless(super().recv_array(shape, dtype, src, deadline))


@pytest.mark.parametrize(
    ("careless", "came"),
    [
        (lambda array: array.astype(mx.float32), "float32 (1, 3, 8)"),
        (lambda array: array.reshape(3, 8), "float16 (3, 8)"),
    ],
    ids=["dtype", "shape"],
)
def test_an_array_other_than_announced_ends_the_link(careless: Callable[[mx.array], mx.array], came: str) -> None:
    hub = Hub()
    first, second = MemoryGroup(hub, seat(0, 2), 1 << 20), Careless(hub, seat(1, 2), 1 << 20)
    second.careless = careless
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
    receiver = Link(Lanes(second, second), inbox, Transfers(), Limits(5.0, LIMIT, 0))
    receiver.start()
    tensor = pattern("float16")
    sender = Link(Lanes(first, first), queue.SimpleQueue(), Transfers(), Limits(5.0, LIMIT, 0))
    sender.start()
    sender.send(header(tensor, "float16"), tensor)
    got = inbox.get(timeout=WAIT_S)
    assert isinstance(got, LinkFailed)
    assert came in str(got.error)


def test_the_end_of_the_peer_ends_the_link_with_peer_lost(pair: Pair) -> None:
    pair.peer.abort()
    assert isinstance(pair.failure().error, PeerLost)


def test_closing_our_own_side_ends_the_thread_without_a_complaint(pair: Pair) -> None:
    pair.receiver._frames.abort()
    pair.receiver._thread.join(WAIT_S)
    assert not pair.receiver._thread.is_alive()
    assert pair.inbox.empty()
