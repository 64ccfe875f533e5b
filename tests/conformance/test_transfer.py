"""Parts arrive whole, exact and in order."""

from __future__ import annotations

import ctypes
import os
import random

import mlx.core as mx
import pytest

from nova.transport.api import Buffer

from .harness import Background, Harness, soon


@pytest.mark.parametrize("size", [0, 1, 16 << 10, 65_521, 3 << 20])
def test_a_part_arrives_exactly(harness: Harness, size: int) -> None:
    data = random.Random(size).randbytes(size)
    with harness.group() as (left, right):
        sending = Background(lambda: left.send([data], 1, soon()))
        out = bytearray(size)
        right.recv_into(out, 0, soon())
        sending.result()
    assert out == data


def test_several_parts_arrive_one_by_one(harness: Harness) -> None:
    parts = [os.urandom(size) for size in (448, 0, 16 << 10, 2 << 20, 7, 70_000, 1)]
    with harness.group() as (left, right):
        sending = Background(lambda: left.send(parts, 1, soon()))
        for part in parts:
            out = bytearray(len(part))
            right.recv_into(out, 0, soon())
            assert out == part
        sending.result()


def test_more_parts_than_one_system_call_takes(harness: Harness) -> None:
    parts = [index.to_bytes(2, "little") for index in range(3000)]
    with harness.group() as (left, right):
        sending = Background(lambda: left.send(parts, 1, soon()))
        for part in parts:
            out = bytearray(2)
            right.recv_into(out, 0, soon())
            assert out == part
        sending.result()


def test_no_parts_are_no_parts(harness: Harness) -> None:
    with harness.group() as (left, right):
        left.send([], 1, soon())
        left.send([b"x"], 1, soon())
        right.recv_into(out := bytearray(1), 0, soon())
    assert out == b"x"


def test_every_kind_of_buffer_is_taken(harness: Harness) -> None:
    array = mx.arange(512, dtype=mx.float32).astype(mx.bfloat16)
    mx.eval(array)

    class Pair(ctypes.Structure):
        _fields_ = (("a", ctypes.c_int16), ("b", ctypes.c_int16))

    odd = (Pair * 4)(*[Pair(index, -index) for index in range(4)])
    kinds: list[Buffer] = [b"bytes", bytearray(b"bytearray"), memoryview(b"view")[1:], memoryview(odd)]
    kinds += [memoryview(array), memoryview(bytearray(8)).cast("f")]  # type: ignore[arg-type, list-item]
    with harness.group() as (left, right):
        left.send(kinds, 1, soon())
        for kind in kinds:
            view = memoryview(kind)
            right.recv_into(out := bytearray(view.nbytes), 0, soon())
            assert out == view.tobytes()


def test_a_bfloat16_array_is_received_in_place(harness: Harness) -> None:
    source, target = mx.arange(300, dtype=mx.float32).astype(mx.bfloat16), mx.zeros((300,), mx.bfloat16)
    mx.eval(source, target)
    with harness.group() as (left, right):
        left.send([memoryview(source)], 1, soon())  # type: ignore[arg-type]
        right.recv_into(memoryview(target), 0, soon())  # type: ignore[arg-type]
    assert mx.array_equal(source, target).item()


def test_a_strided_buffer_is_refused_and_nothing_is_sent(harness: Harness) -> None:
    with harness.group() as (left, right):
        with pytest.raises(ValueError, match="contiguous"):
            left.send([b"before", memoryview(bytearray(64))[::2]], 1, soon())
        with pytest.raises(ValueError, match="contiguous"):
            right.recv_into(memoryview(bytearray(64))[::2], 0, soon())
        with pytest.raises(ValueError, match="writable"):
            right.recv_into(memoryview(b"read only"), 0, soon())
        left.send([b"after"], 1, soon())
        right.recv_into(out := bytearray(5), 0, soon())
    assert out == b"after"


def test_order_is_kept_and_sends_need_no_waiting_receiver(harness: Harness) -> None:
    with harness.group() as (left, right):
        for index in range(50):
            left.send([index.to_bytes(4, "big")], 1, soon())
        for index in range(50):
            right.recv_into(out := bytearray(4), 0, soon())
            assert int.from_bytes(out, "big") == index


def test_both_directions_at_once(harness: Harness) -> None:
    """Each rank sends from one thread while it receives in another, more than any buffer between them holds."""
    size, rounds = 3 << 20, 4
    data = [random.Random(rank).randbytes(size) for rank in range(2)]
    with harness.group() as groups:

        def receive(rank: int) -> None:
            out = bytearray(size)
            for _ in range(rounds):
                groups[rank].recv_into(out, 1 - rank, soon())
                assert out == data[1 - rank]

        def send(rank: int) -> None:
            for _ in range(rounds):
                groups[rank].send([data[rank]], 1 - rank, soon())

        calls = [Background(lambda rank=rank, call=call: call(rank)) for rank in range(2) for call in (send, receive)]  # type: ignore[misc]
        for call in calls:
            call.result()


def test_any_rank_reaches_any_other(harness: Harness) -> None:
    with harness.group(4) as groups:
        for group in groups:
            for dst in range(4):
                if dst != group.rank:
                    group.send([bytes([group.rank, dst])], dst, soon())
        for group in groups:
            for src in range(4):
                if src != group.rank:
                    group.recv_into(out := bytearray(2), src, soon())
                    assert out == bytes([src, group.rank])
