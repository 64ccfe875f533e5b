"""A row is taken only where its request's caches ended, and every way through solo and batch caches gives the bits of
the request alone.

The model here is one attention layer over whole numbers with mlx_lm's own caches: small enough for thousands of
chunks, and exact, so that a position lost, doubled or swapped with a neighbour's shows in the output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from mlx_lm.models.cache import KVCache, QuantizedKVCache, RotatingKVCache

from nova.engine.batches import Cache
from nova.engine.caches import UNUSED, Caches
from nova.errors import EngineError, TransportFault
from nova.wire.rows import RowHead
from nova.wire.tensor import Flags, Header, Kind, layout

SIZE = 64
"""Of a head; QuantizedKVCache wants groups of 64."""


def attend(hidden: mx.array, caches: Cache) -> mx.array:
    """[B, n, SIZE] -> the same: each position gets the sum of all values up to it, masked as attention is."""
    for cache in caches:
        keys, values = cache.update_and_fetch(hidden[:, None], hidden[:, None])
        if isinstance(cache, QuantizedKVCache):
            plain: list[mx.array] = []
            for packed, scales, biases in (keys, values):
                plain.append(mx.dequantize(packed, scales, biases, cache.group_size, cache.bits))
            keys, values = plain
        count, length = hidden.shape[1], keys.shape[2]
        if hasattr(cache, "left_padding"):
            seen = mx.arange(length)[None, None] >= cache.left_padding[:, None, None]
        else:
            seen = mx.ones((1, 1, length), mx.bool_)
        seen = seen & (mx.arange(length)[None] <= mx.arange(length - count, length)[:, None])
        hidden = hidden + mx.where(seen[..., None], values, 0).sum(2) % 1024
    return hidden


def chunk(width: int, rows: list[RowHead], group: int = 0) -> Header:
    return Header(layout(Kind.HIDDEN, Flags.NONE, width, "float32", (len(rows), width, SIZE)), tuple(rows), group)


def text(seed: int, count: int) -> list[int]:
    return [(seed * 7919 + place * 31) % 97 + 1 for place in range(count)]


def embedded(rows: list[list[int]]) -> mx.array:
    return mx.array(rows, mx.float32)[..., None] * mx.ones((SIZE,))


def two_layers() -> Cache:
    return [KVCache(), KVCache()]


def alone(tokens: list[list[int]], make: Any = two_layers) -> list[mx.array]:
    """What a request gets by itself, chunk by chunk, [n, SIZE] of each."""
    caches = make()
    return [attend(embedded([piece]), caches)[0] for piece in tokens]


# --- the order of chunks --------------------------------------------------------------------------------------------

WIDTHS = st.lists(st.integers(1, 9), min_size=2, max_size=6)


def chunks(stream: int, widths: list[int]) -> list[Header]:
    at = [sum(widths[:index]) for index in range(len(widths))]
    rows = [RowHead(stream, position, first=position == 0) for position in at]
    return [chunk(width, [row]) for width, row in zip(widths, rows, strict=True)]


def taken(caches: Caches, header: Header) -> Any:
    """The caches that a chunk of one row is run with."""
    found: list[Any] = []

    def run(hidden: mx.array, layers: Cache) -> mx.array:
        found.extend(layers)
        return hidden

    caches.run(header, mx.zeros((1, header.width, SIZE)), run)
    return found[0]


@given(WIDTHS, WIDTHS)
def test_chunks_in_order_each_continue_their_own_request_s_caches(one: list[int], other: list[int]) -> None:
    caches, found = Caches(two_layers), dict[int, list[Any]]()
    for header in sorted(chunks(1, one) + chunks(2, other), key=lambda header: header.rows[0].position):
        found.setdefault(header.rows[0].stream, []).append(taken(caches, header))
    assert all(len(set(map(id, same))) == 1 for same in found.values())
    assert found[1][0] is not found[2][0]


@given(WIDTHS, st.data())
def test_a_chunk_that_is_lost_repeated_or_overtaken_is_refused(widths: list[int], data: st.DataObject) -> None:
    right = chunks(1, widths)
    at = data.draw(st.integers(0, len(right) - 2))
    wrong = data.draw(
        st.sampled_from(
            [
                [*right[:at], *right[at + 1 :]],
                [*right[: at + 1], *right[at:]],
                [*right[:at], right[at + 1], right[at], *right[at + 2 :]],
            ]
        )
    )
    caches = Caches(two_layers)
    with pytest.raises(TransportFault, match="request 1"):
        [taken(caches, header) for header in wrong]


def test_a_row_out_of_order_leaves_its_neighbours_as_they_were() -> None:
    caches = Caches(two_layers)
    for stream in (1, 2):
        taken(caches, chunks(stream, [4])[0])
    with pytest.raises(TransportFault, match="request 2: position 5 came, 4 was awaited"):
        caches.run(chunk(1, [RowHead(1, 4), RowHead(2, 5)], 1), mx.zeros((2, 1, SIZE)), attend)
    caches.run(chunk(1, [RowHead(1, 4), RowHead(2, 4)], 1), mx.zeros((2, 1, SIZE)), attend)


def test_dropped_caches_are_gone() -> None:
    caches = Caches(two_layers)
    taken(caches, chunks(1, [4])[0])
    assert 1 in caches
    caches.drop([1, 7])
    caches.drop([1])
    assert 1 not in caches
    with pytest.raises(TransportFault, match="before its first one"):
        taken(caches, chunk(1, [RowHead(1, 4)]))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (RowHead(2, 3, first=True, source=9), "caches of request 9, which are not here"),
        (RowHead(2, 5, first=True, source=1), "position 5 came, 4 was awaited"),
        (RowHead(1, 0, first=True), "position 0 came, 4 was awaited"),
    ],
    ids=["no source", "beyond its source", "begun twice"],
)
def test_a_beginning_that_cannot_be_is_refused(row: RowHead, why: str) -> None:
    caches = Caches(two_layers)
    taken(caches, chunks(1, [4])[0])
    with pytest.raises(TransportFault, match=why):
        taken(caches, chunk(1, [row]))


# --- any life of a pipeline's caches ----------------------------------------------------------------------------------


@dataclass
class Request:
    """One request as the machine knows it: the chunks whose positions its caches hold."""

    seed: int
    done: list[list[int]] = field(default_factory=list)
    parked: bool = False

    @property
    def position(self) -> int:
        return sum(map(len, self.done))

    def tokens(self, width: int) -> list[int]:
        return text(self.seed, self.position + width)[self.position :]


class Life(RuleBasedStateMachine):
    """Requests begin, fork, decode in groups, end and are dropped; each must get what it gets alone."""

    make = staticmethod(two_layers)
    forks_anywhere = True

    def __init__(self) -> None:
        super().__init__()
        self.caches = Caches(self.make)
        self.requests: dict[int, Request] = {}
        self.last = 0

    def check(self, header: Header, pieces: list[list[int]]) -> None:
        out = self.caches.run(header, embedded(pieces), attend)
        for row, piece, got in zip(header.rows, pieces, list(out), strict=True):
            request = self.requests[row.stream]
            request.done.append(piece)
            assert mx.array_equal(got, alone(request.done, self.make)[-1]), row

    @initialize()
    def two(self) -> None:
        for width in (3, 5):
            self.begin(width)

    @rule(width=st.sampled_from([1, 2, 5, 17]))
    def begin(self, width: int) -> None:
        self.last += 1
        request = self.requests[self.last] = Request(self.last)
        self.check(chunk(width, [RowHead(self.last, 0, first=True)]), [request.tokens(width)])

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), width=st.sampled_from([1, 3]))
    def fork(self, data: st.DataObject, width: int) -> None:
        source = data.draw(st.sampled_from(sorted(self.requests)))
        kept = [token for piece in self.requests[source].done for token in piece]
        position = data.draw(st.integers(1, len(kept))) if self.forks_anywhere else len(kept)
        self.last += 1
        request = self.requests[self.last] = Request(self.last)
        # As the source cut it, so that the shapes are the same.
        for piece in self.requests[source].done:
            if request.position < position:
                request.done.append(piece[: position - request.position])
        row = RowHead(self.last, position, first=True, source=source)
        self.check(chunk(width, [row]), [request.tokens(width)])

    @precondition(lambda self: any(not request.parked for request in self.requests.values()))
    @rule(data=st.data(), group=st.integers(1, 3), steps=st.integers(1, 3), width=st.sampled_from([1, 1, 2]))
    def decode(self, data: st.DataObject, group: int, steps: int, width: int) -> None:
        live = [stream for stream, request in self.requests.items() if not request.parked]
        streams = data.draw(st.lists(st.sampled_from(live), min_size=1, max_size=5, unique=True))
        for _ in range(steps):
            rows = [RowHead(stream, self.requests[stream].position) for stream in streams]
            self.check(chunk(width, rows, group), [self.requests[stream].tokens(width) for stream in streams])

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        self.requests[data.draw(st.sampled_from(sorted(self.requests)))].parked = True

    @precondition(lambda self: len(self.requests) > 1)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        gone = data.draw(st.lists(st.sampled_from(sorted(self.requests)), min_size=1, max_size=3, unique=True))
        self.caches.drop(gone)
        for stream in gone:
            del self.requests[stream]
            assert stream not in self.caches

    def teardown(self) -> None:
        assert all(stream in self.caches for stream in self.requests)
        self.caches.drop(list(self.requests))
        assert (self.caches.nbytes, self.caches._batches, self.caches._kept) == (0, {}, {})


class QuantizedLife(Life):
    make = staticmethod(lambda: [QuantizedKVCache(64, 8)])


class WindowLife(Life):
    make = staticmethod(lambda: [RotatingKVCache(1 << 10)])


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestQuantizedLife = QuantizedLife.TestCase
TestWindowLife = WindowLife.TestCase
TestQuantizedLife.settings = TestWindowLife.settings = settings(max_examples=6, stateful_step_count=20, deadline=None)


# --- what is not touched ----------------------------------------------------------------------------------------------


def grouped(make: Any = two_layers, streams: int = 3) -> Caches:
    """Requests of different lengths, decoding as group 1."""
    caches = Caches(make)
    for stream in range(1, streams + 1):
        taken_by = chunk(stream + 1, [RowHead(stream, 0, first=True)])
        caches.run(taken_by, embedded([text(stream, stream + 1)]), attend)
    rows = [RowHead(stream, stream + 1) for stream in range(1, streams + 1)]
    caches.run(chunk(1, rows, 1), mx.ones((streams, 1, SIZE)), attend)
    return caches


def test_a_group_with_the_same_members_goes_on_in_the_same_caches() -> None:
    caches = grouped()
    before = caches._batches[1].layers[0]
    for step in range(3):
        rows = [RowHead(stream, stream + 2 + step) for stream in (1, 2, 3)]
        caches.run(chunk(1, rows, 1), mx.ones((3, 1, SIZE)), attend)
        assert caches._batches[1].layers[0] is before


def test_the_drop_of_a_member_copies_nothing_and_the_last_one_takes_the_batch_along() -> None:
    caches = grouped()
    held = caches.nbytes
    caches.drop([1, 3])
    assert caches.nbytes == held
    caches.drop([2])
    assert caches.nbytes == 0


def test_a_group_whose_members_have_moved_on_is_gone() -> None:
    caches = grouped()
    caches.run(chunk(1, [RowHead(1, 3), RowHead(2, 4)], 2), mx.ones((2, 1, SIZE)), attend)
    caches.run(chunk(1, [RowHead(3, 5)], 3), mx.ones((1, 1, SIZE)), attend)
    assert set(caches._batches) == {2}


def test_a_group_of_one_has_plain_caches() -> None:
    caches = grouped()
    caches.run(chunk(1, [RowHead(2, 4)], 1), mx.ones((1, 1, SIZE)), attend)
    assert not caches._batches


def test_a_batch_that_no_chunk_is_for_any_more_is_taken_apart() -> None:
    """Its members have ended in the same chunk and are kept: each would stay as long as the longest."""
    caches = Caches(two_layers)
    for stream, length in ((1, 1000), (2, 10), (3, 20)):
        caches.run(chunk(length, [RowHead(stream, 0, first=True)]), embedded([text(stream, length)]), attend)
    rows = [RowHead(1, 1000), RowHead(2, 10), RowHead(3, 20)]
    caches.run(chunk(1, rows, 1), embedded([[1], [2], [3]]), attend)
    caches.drop([3])
    for position in range(2 * UNUSED):
        caches.run(chunk(1, [RowHead(4, position, first=not position)], 2), mx.ones((1, 1, SIZE)), attend)
        mx.eval(caches.states())
    caches.drop([4])
    assert caches.nbytes == 2 * 2 * (1001 + 11) * SIZE * 4
    out = caches.run(chunk(1, [RowHead(2, 11)]), embedded([[7]]), attend)
    assert mx.array_equal(out[0], alone([text(2, 10), [2], [7]])[-1])


@pytest.mark.parametrize("make", [lambda: [QuantizedKVCache(64, 8)], lambda: [RotatingKVCache(8)]])
def test_caches_that_do_not_merge_are_never_batched(make: Any) -> None:
    assert not grouped(make)._batches


def test_a_fork_does_not_hold_on_to_a_longer_text() -> None:
    caches = Caches(two_layers)
    caches.run(chunk(2000, [RowHead(1, 0, first=True)]), mx.ones((1, 2000, SIZE)), attend)
    caches.run(chunk(1, [RowHead(2, 10, first=True, source=1)]), mx.ones((1, 1, SIZE)), attend)
    caches.drop([1])
    assert caches.nbytes < 2 * 2 * 300 * SIZE * 4


def test_a_window_that_has_turned_cannot_be_cut_back() -> None:
    caches = Caches(lambda: [RotatingKVCache(8)])
    taken_by = chunk(20, [RowHead(1, 0, first=True)])
    caches.run(
        taken_by, mx.ones((1, 20, SIZE)), lambda hidden, layers: layers[0].update_and_fetch(*[hidden[:, None]] * 2)[0]
    )
    with pytest.raises(EngineError, match="a RotatingKVCache of 20 positions cannot be cut back to 9"):
        caches.run(chunk(1, [RowHead(2, 9, first=True, source=1)]), mx.ones((1, 1, SIZE)), attend)


def test_states_are_all_that_is_left_to_compute_of_the_last_run() -> None:
    caches = Caches(two_layers)
    caches.run(chunk(4, [RowHead(1, 0, first=True)]), mx.ones((1, 4, SIZE)), attend)
    (states,) = caches.states()
    assert [state[2] for state in states] == [4, 4]
    caches.drop([1])
    assert caches.states() == []


def test_with_the_last_request_its_memory_goes_back_to_the_system() -> None:
    caches = Caches(two_layers)
    for stream in (1, 2):
        caches.run(chunk(3000, [RowHead(stream, 0, first=True)]), mx.ones((1, 3000, SIZE)), attend)
        mx.eval(caches.states())
    before = mx.get_active_memory()
    caches.drop([1, 2])
    assert before - mx.get_active_memory() > 4 * 2 * 3000 * SIZE * 2
    assert mx.get_cache_memory() == 0
