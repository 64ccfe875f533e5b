"""T1 to T8: parts arrive whole, exact and in order, from and into any buffer."""

from __future__ import annotations

import ctypes

from nova.testing.bits import bits, random_bytes, same
from nova.testing.case import case
from nova.testing.checks import check, raises, soon
from nova.testing.rank import Rank
from nova.transport.api import Buffer, Caps

SIZES = (0, 1, 16 << 10, 65_521, 3 << 20)
"""Bytes: nothing, one, a chunk of decode, a prime, and more than a transport's frames and buffers."""

PIECE = bytes(1 << 20)
PIECES = 48
"""So many pieces are more than every buffer between two ranks holds."""


def noise(size: int, seed: int = 0) -> bytes:
    """Random bytes that every rank can work out for itself."""
    return random_bytes(size, str(seed))


def take(rank: Rank, size: int, src: int) -> bytearray:
    rank.parts.recv_into(out := bytearray(size), src, soon())
    return out


@case(needs=Caps.BYTES)
def T1_a_part_arrives_exactly(rank: Rank) -> None:
    """A part of any size arrives byte for byte, an empty one too."""
    for size in SIZES:
        if rank.rank == 0:
            rank.parts.send([noise(size)], 1, soon())
        else:
            check(take(rank, size, 0) == noise(size), f"a part of {size} bytes came as other bytes")


@case(needs=Caps.BYTES)
def T2_parts_of_one_send_arrive_one_by_one(rank: Rank) -> None:
    """Each part of a send is taken by one receive, in order; a send of no parts sends nothing."""
    sizes = (448, 0, 16 << 10, 2 << 20, 7, 70_000, 1)
    if rank.rank == 0:
        rank.parts.send([], 1, soon())
        rank.parts.send([noise(size) for size in sizes], 1, soon())
        return
    for size in sizes:
        check(take(rank, size, 0) == noise(size), f"the part of {size} bytes came as other bytes")


@case(needs=Caps.BYTES)
def T3_order_is_kept(rank: Rank) -> None:
    """Sends need no waiting receiver, and arrive in order."""
    if rank.rank == 0:
        for index in range(50):
            rank.parts.send([index.to_bytes(4, "big")], 1, soon())
    rank.all_gather()
    if rank.rank == 1:
        came = [int.from_bytes(take(rank, 4, 0), "big") for _ in range(50)]
        check(came == list(range(50)), f"parts came in the order {came}")


@case(needs=Caps.BYTES)
def T4_a_send_may_have_many_parts(rank: Rank) -> None:
    """A send may have more parts than one system call takes."""
    if rank.rank == 0:
        rank.parts.send([index.to_bytes(2, "big") for index in range(3000)], 1, soon())
        return
    for index in range(3000):
        came = int.from_bytes(take(rank, 2, 0), "big")
        check(came == index, f"part {index} is part {came}")


@case(needs=Caps.BYTES)
def T5_every_kind_of_buffer_is_taken(rank: Rank) -> None:
    """A part may be bytes, bytearray, or any contiguous memoryview, whatever its format and shape."""

    class Pair(ctypes.Structure):
        _fields_ = (("a", ctypes.c_int16), ("b", ctypes.c_int16))

    structured = (Pair * 4)(*[Pair(index, -index) for index in range(4)])
    kinds: list[Buffer] = [b"bytes", bytearray(b"bytearray"), memoryview(b"view")[1:], memoryview(structured)]
    kinds += [memoryview(noise(24)).cast("B", (2, 3, 4)), memoryview(noise(8)).cast("f")]  # type: ignore[list-item]
    kinds += [memoryview(bits((512,), "bfloat16"))]
    if rank.rank == 0:
        rank.parts.send(kinds, 1, soon())
        return
    for kind in kinds:
        view = memoryview(kind)
        came = take(rank, view.nbytes, 0)
        check(came == view.tobytes(), f"a buffer of format {view.format} came as {bytes(came)!r}")


@case(needs=Caps.BYTES)
def T6_a_part_lands_in_place(rank: Rank) -> None:
    """A destination may be any writable contiguous memoryview, such as that of an array with its own format."""
    if rank.rank == 0:
        rank.parts.send([noise(1200), noise(24), memoryview(bits((300,), "bfloat16"))], 1, soon())
        return
    whole = bytearray(2000)
    rank.parts.recv_into(memoryview(whole)[400:1600], 0, soon())
    check(whole == bytes(400) + noise(1200) + bytes(400), "the part landed beside its destination")
    rank.parts.recv_into(memoryview(floats := bytearray(24)).cast("f"), 0, soon())  # type: ignore[arg-type]
    check(floats == noise(24), "a destination of format f got other bytes")
    rank.parts.recv_into(memoryview(array := bits((300,), "bfloat16", 1)), 0, soon())
    check(same(array, bits((300,), "bfloat16")), "an array of bfloat16 got other bits")


@case(needs=Caps.BYTES)
def T7_a_strided_buffer_is_refused(rank: Rank) -> None:
    """A buffer that is not contiguous, or a destination that is read-only, is a ValueError; nothing has moved."""
    strided = memoryview(bytearray(64))[::2]
    if rank.rank == 0:
        with raises(ValueError):
            rank.parts.send([b"before", strided], 1, soon())
        rank.parts.send([b"after"], 1, soon())
        return
    for wrong in (strided, memoryview(b"read only")):
        with raises(ValueError):
            rank.parts.recv_into(wrong, 0, soon())
    check(take(rank, 5, 0) == b"after", "parts of the refused send came")


@case(needs=Caps.BYTES)
def T8_a_buffer_is_free_after_the_send(rank: Rank) -> None:
    """A sender may change its buffer as soon as the send has returned."""
    for size in (100, 200_000):
        if rank.rank == 0:
            rank.parts.send([buffer := bytearray(noise(size))], 1, soon())
            buffer[:] = bytes(size)
            rank.all_gather()
        else:
            rank.all_gather()
            check(take(rank, size, 0) == noise(size), f"a change after the send shows in {size} bytes")
