"""Chunks over arrays beside a group of bytes: only hidden states go apart, and only what was announced arrives."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import pytest

from nova.clock import Deadline
from nova.engine.control import Transfers
from nova.engine.lanes import Lanes
from nova.engine.link import Limits, Link, LinkFailed, Received
from nova.errors import TransportFault
from nova.wire.rows import RowHead
from nova.wire.tensor import DTYPE_SIZES, Flags, Header, Kind, layout
from tests.unit.engine.ranks import WAIT_S, groups

GENERATION = 7


class Arrays:
    """An ArrayGroup that keeps what is sent, and gives it out or something else."""

    def __init__(self) -> None:
        self.sent: queue.SimpleQueue[mx.array] = queue.SimpleQueue()
        self.instead: mx.array | None = None
        self.asked: list[tuple[tuple[int, ...], Any]] = []

    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        self.sent.put(array)

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        self.asked.append((tuple(shape), dtype))
        array = self.sent.get(timeout=deadline.remaining())
        return array if self.instead is None else self.instead


class Pair:
    """Rank 0 sends to rank 1, parts and arrays apart."""

    def __init__(self) -> None:
        self.arrays = Arrays()
        self.groups = groups(2)
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        limits = Limits(WAIT_S, 1 << 20, GENERATION)
        self.receiver = Link(Lanes(self.groups[1], self.arrays), self.inbox, Transfers(), limits)
        self.receiver.start()
        self.sender = Link(Lanes(self.groups[0], self.arrays), queue.SimpleQueue(), Transfers(), limits)
        self.sender.start()

    def get(self) -> Received:
        got = self.inbox.get(timeout=WAIT_S)
        assert isinstance(got, Received), got
        return got


@pytest.fixture
def pair() -> Iterator[Pair]:
    found = Pair()
    yield found
    for group in found.groups:
        group.abort()


def tensor(dtype: str, kind: Kind = Kind.HIDDEN) -> tuple[Header, mx.array]:
    array = (mx.arange(24) % 2).astype(getattr(mx, dtype)).reshape(1, 3, 8)
    mx.eval(array)
    return Header(layout(kind, Flags.NONE, 3, dtype, (1, 3, 8)), (RowHead(1, 0),)), array


@pytest.mark.parametrize("dtype", sorted(DTYPE_SIZES))
def test_a_hidden_state_goes_as_an_array_of_the_shape_and_dtype_that_its_header_says(pair: Pair, dtype: str) -> None:
    header, sent = tensor(dtype)
    pair.sender.send(header, sent)
    got = pair.get()
    assert got.slot is None
    assert mx.array_equal(got.array(), sent).item()
    assert pair.arrays.asked == [((1, 3, 8), getattr(mx, dtype))]


def test_token_ids_stay_with_their_header_so_that_no_circle_of_ranks_can_wait_in_arrays(pair: Pair) -> None:
    header, sent = tensor("uint32", Kind.TOKENS)
    pair.sender.send(header, sent)
    assert mx.array_equal(pair.get().array(), sent).item()
    assert pair.arrays.asked == []


def test_a_chunk_without_a_tensor_asks_for_no_array(pair: Pair) -> None:
    drop = Header(layout(Kind.HIDDEN, Flags.DROP, 0, "uint32", (0,)), (RowHead(1, 0),))
    pair.sender.send(drop, mx.zeros((0,), mx.uint32))
    assert pair.get().slot is None
    assert pair.arrays.asked == []


@pytest.mark.parametrize("instead", [mx.zeros((1, 3, 9)), mx.zeros((1, 3, 8), mx.float16)], ids=["shape", "dtype"])
def test_another_array_than_announced_breaks_the_link(pair: Pair, instead: mx.array) -> None:
    pair.arrays.instead = instead
    pair.sender.send(*tensor("float32"))
    failed = pair.inbox.get(timeout=WAIT_S)
    assert isinstance(failed, LinkFailed)
    assert isinstance(failed.error, TransportFault)
    assert str(failed.error).startswith("rank 0 announced mlx.core.float32 (1, 3, 8), and ")


def test_a_late_chunk_of_an_old_generation_is_dropped_with_its_tensor(pair: Pair) -> None:
    header, sent = tensor("float32")
    late = Link(Lanes(pair.groups[0], pair.arrays), queue.SimpleQueue(), Transfers(), Limits(WAIT_S, 1 << 20, 6))
    late.start()
    late.send(header, sent)
    late._outgoing.join()
    pair.sender.send(*tensor("float16"))
    got = pair.get()
    assert got.header.generation == GENERATION
    assert got.array().dtype == mx.float16
