"""The part of VERIFY that needs MLX: arrays come back as they went, and collectives give the known answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import mlx.core as mx

from nova.clock import Deadline
from nova.engine.verify import turns
from nova.errors import FormingFailed
from nova.transport.api import ArrayGroup, CollectiveGroup, Seat

DTYPES = (mx.float32, mx.float16, mx.bfloat16, mx.uint32, mx.uint8)
"""What hidden states and quantised tensors come in."""

SIZES = (1, 1023, 70_000)
"""Elements: below a frame of every transport, odd, and several frames."""

Fail = Callable[[str], FormingFailed]


@dataclass
class ArrayCarrier:
    """`nova.engine.verify.Carrier` over arrays of bytes."""

    group: ArrayGroup
    deadline: Deadline

    def put(self, data: bytes, dst: int) -> None:
        array = mx.array(memoryview(data))  # type: ignore[arg-type]  # takes any buffer
        mx.eval(array)
        self.group.send_array(array, dst, self.deadline)

    def take(self, count: int, src: int) -> bytes:
        return bytes(memoryview(self.group.recv_array((count,), mx.uint8, src, self.deadline)))


def pattern(size: int, dtype: mx.Dtype, rank: int) -> mx.array:
    """Numbers that every dtype holds exactly, and their sums over sixteen ranks too; different for each rank."""
    return ((mx.arange(size, dtype=mx.int32) * 7 + rank + 1) % 15).astype(dtype)


def arrays(group: ArrayGroup, seat: Seat, deadline: Deadline, fail: Fail) -> None:
    """Every dtype and size to the right neighbour and back. Raises FormingFailed."""
    for leads, other in turns(seat):
        leader = seat.rank if leads else other
        for dtype in DTYPES:
            for size in SIZES:
                sent = pattern(size, dtype, leader)
                mx.eval(sent)
                if leads:
                    group.send_array(sent, other, deadline)
                got = group.recv_array((size,), dtype, other, deadline)
                if not equal(got, sent):
                    raise fail(f"{size} numbers of {dtype} came from rank {other} as others")
                if not leads:
                    group.send_array(got, other, deadline)


def collectives(group: CollectiveGroup, seat: Seat, fail: Fail) -> None:
    """Every declared operation against the answer worked out here. Raises FormingFailed."""
    native = group.native()
    if (native.rank(), native.size()) != (seat.rank, seat.size):
        raise fail(f"MLX's group says rank {native.rank()} of {native.size()}, expected {seat.rank} of {seat.size}")
    for name in sorted(group.collectives):
        if name not in ANSWERS:
            raise fail(f"it declares {name}, and nobody here knows the right answer to that")
        for dtype in DTYPES:
            for size in (seat.size, 1024 * seat.size, SIZES[-1] * seat.size):
                every = [pattern(size, dtype, rank) for rank in range(seat.size)]
                operation = getattr(mx.distributed, name)
                got = operation(every[seat.rank], group=native, stream=mx.cpu)
                mx.eval(got)
                if not equal(got, expected(name, every, seat.rank)):
                    raise fail(f"{name} of {size} numbers of {dtype} gave a wrong answer")


def expected(name: str, every: list[mx.array], rank: int) -> mx.array:
    """What the collective must give at `rank`. The patterns are small whole numbers, so sums are exact."""
    return ANSWERS[name](every, rank)


ANSWERS: dict[str, Callable[[list[mx.array], int], mx.array]] = {
    "all_sum": lambda every, _: reduce(mx.add, every),
    "all_max": lambda every, _: reduce(mx.maximum, every),
    "all_min": lambda every, _: reduce(mx.minimum, every),
    "all_gather": lambda every, _: mx.concatenate(every),
    "sum_scatter": lambda every, rank: mx.split(reduce(mx.add, every), len(every))[rank],
}
"""From every rank's array and the rank that asks. What is not in here cannot be verified."""


def equal(a: mx.array, b: mx.array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool(mx.array_equal(a, b).item())
