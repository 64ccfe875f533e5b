"""Chunks over a group: tensors arrive equal to the bit, slots are not written while in use, every end is told."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import pytest

from nova.clock import Deadline
from nova.engine.control import Transfers
from nova.engine.lanes import Lanes
from nova.engine.link import Limits, Link, LinkFailed, Received, bytes_of
from nova.engine.schedule import window
from nova.errors import LengthMismatch, PeerLost, ProtocolError
from nova.transport.memory import MemoryGroup
from nova.wire.tensor import DTYPE_SIZES, HEADER_BYTES, Flags, Header, Kind, layout
from tests.unit.engine.ranks import WAIT_S, groups

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
    yield Pair(Link(Lanes(first), queue.SimpleQueue(), Transfers(), Limits(5.0, LIMIT, 0)), receiver, first, inbox)
    second.abort()
    first.abort()
    receiver._thread.join(WAIT_S)
    assert not receiver._thread.is_alive()


def header(tensor: mx.array, dtype: str, position: int = 0) -> Header:
    return Header(layout(Kind.HIDDEN, Flags.NONE, 1, dtype, tuple(tensor.shape)), 1, 0, position)


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
    empty = mx.zeros((0,), mx.uint32)
    pair.sender.send(header(empty, "uint32"), empty)
    assert pair.get().header.nbytes == 0


def test_a_smaller_tensor_after_a_larger_one_in_the_same_slot_has_its_own_length(pair: Pair) -> None:
    for width in (64, 3, 64, 1) * window(2):
        sent = mx.arange(width)
        mx.eval(sent)
        pair.sender.send(header(sent, "int32"), sent)
        got = pair.get()
        assert mx.array_equal(got.array(), sent)
        pair.receiver.release(got)


def test_a_strided_array_is_refused_and_nothing_is_sent(pair: Pair) -> None:
    strided = mx.arange(12).reshape(3, 4).T
    mx.eval(strided)
    with pytest.raises(BufferError):
        pair.sender.send(header(strided, "int32"), strided)
    whole = mx.arange(2)
    mx.eval(whole)
    pair.sender.send(header(whole, "int32", position=7), whole)
    assert pair.get().header.position == 7


def test_a_slot_is_written_again_only_after_its_release(pair: Pair) -> None:
    for position in range(2 * window(2)):
        tensor = mx.full((16,), position, mx.int32)
        mx.eval(tensor)
        pair.sender.send(header(tensor, "int32", position), tensor)
    held = [pair.get() for _ in range(window(2))]
    with pytest.raises(queue.Empty):
        pair.inbox.get(timeout=0.05)
    for following in range(window(2), 2 * window(2)):
        assert [chunk.array().tolist() for chunk in held] == [[chunk.header.position] * 16 for chunk in held]
        pair.receiver.release(held.pop(0))
        held.append(pair.get())
        assert held[-1].header.position == following


@pytest.mark.parametrize(
    ("part", "error", "why"),
    [
        (b"x" * HEADER_BYTES, ProtocolError, "begins with"),
        (b"x", LengthMismatch, "sent 1 bytes"),
        (
            Header(layout(Kind.HIDDEN, Flags.NONE, 1, "uint8", (LIMIT + 1,)), 1, 0, 0).pack(),
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


def test_the_end_of_the_peer_ends_the_link_with_peer_lost(pair: Pair) -> None:
    pair.peer.abort()
    assert isinstance(pair.failure().error, PeerLost)


def test_closing_our_own_side_ends_the_thread_without_a_complaint(pair: Pair) -> None:
    pair.receiver._frames.abort()
    pair.receiver._thread.join(WAIT_S)
    assert not pair.receiver._thread.is_alive()
    assert pair.inbox.empty()
