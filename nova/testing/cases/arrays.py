"""A: arrays arrive bit for bit. MLX is imported inside the cases: a transport of bytes is tested without it."""

from __future__ import annotations

from typing import Any

from nova.testing.bits import bits, same
from nova.testing.case import case
from nova.testing.checks import PROMPT_S, Background, check, raises, soon
from nova.testing.rank import Rank
from nova.transport.api import Caps

DTYPES = (
    "bool_", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "complex64",
)  # fmt: skip
"""Names in `mlx.core`: hidden states, quantised weights (uint32), token ids, masks."""

SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (3, 5, 7), (1, 1, 4096), (70_001,), (3 << 20,))
"""A scalar, one element, odd, a hidden state of one position, an odd and a large number of elements."""


def _send(rank: Rank, array: Any, dst: int) -> None:
    rank.arrays.send_array(array, dst, soon())


def _expect(rank: Rank, wanted: Any, src: int, what: str) -> None:
    came = rank.arrays.recv_array(wanted.shape, wanted.dtype, src, soon())
    check(came.dtype == wanted.dtype, f"{what} came as {came.dtype}")
    check(tuple(came.shape) == tuple(wanted.shape), f"{what} came in shape {came.shape}")
    check(same(came, wanted), f"{what} came with other bits")


@case(needs=Caps.ARRAYS)
def A1_every_dtype_arrives(rank: Rank) -> None:
    """An array of any dtype arrives bit for bit, bfloat16 and uint32 included."""
    for dtype in DTYPES:
        wanted = bits((33, 17), dtype)
        if rank.rank == 0:
            _send(rank, wanted, 1)
        else:
            _expect(rank, wanted, 0, f"an array of {dtype}")


@case(needs=Caps.ARRAYS)
def A2_every_shape_arrives(rank: Rank) -> None:
    """An array of any shape arrives, from a scalar to several MiB."""
    for shape in SHAPES:
        wanted = bits(shape, "float16")
        if rank.rank == 0:
            _send(rank, wanted, 1)
        else:
            _expect(rank, wanted, 0, f"an array of shape {shape}")


@case(needs=Caps.ARRAYS)
def A3_order_is_kept(rank: Rank) -> None:
    """Arrays from one rank to another arrive in order, of whatever sizes."""
    for index in range(30):
        wanted = bits((1 + 97 * (index % 5),), "uint32", index)
        if rank.rank == 0:
            _send(rank, wanted, 1)
        else:
            _expect(rank, wanted, 0, f"array {index}")


@case(ranks=3, needs=Caps.ARRAYS)
def A4_arrays_go_round_the_ring(rank: Rank) -> None:
    """Every rank reaches its right neighbour and is reached by its left one; then the other way round."""
    for dst, src in ((rank.right, rank.left), (rank.left, rank.right)):
        for leader in range(rank.size):  # one at a time, because two calls of a group may wait for each other
            if leader == rank.rank:
                _send(rank, bits((1000,), "bfloat16", rank.rank), dst)
            if leader == src:
                _expect(rank, bits((1000,), "bfloat16", src), src, f"the array of rank {src}")


@case(ranks=4, needs=Caps.ARRAYS | Caps.ANY_PAIR)
def A5_any_rank_reaches_any_other(rank: Rank) -> None:
    """With ANY_PAIR every rank reaches every other; arrays of different ranks do not mix."""
    for src in range(4):
        for dst in range(4):
            if src != dst and rank.rank == src:
                _send(rank, bits((50,), "float32", 4 * src + dst), dst)
            if src != dst and rank.rank == dst:
                _expect(rank, bits((50,), "float32", 4 * src + dst), src, f"the array of rank {src}")


@case(needs=Caps.ARRAYS | Caps.FULL_DUPLEX)
def A6_both_directions_at_once(rank: Rank) -> None:
    """With FULL_DUPLEX each rank sends in one thread while it receives in another, more than all buffers hold."""
    peer, size, rounds = 1 - rank.rank, 3 << 20, 3
    ours, theirs = bits((size,), "uint8", rank.rank), bits((size,), "uint8", peer)

    def receive() -> None:
        for index in range(rounds):
            _expect(rank, theirs, peer, f"array {index}")

    receiving = Background(receive)
    receiving.blocked()
    rank.all_gather()
    for _ in range(rounds):
        _send(rank, ours, peer)
    receiving.result()


@case(needs=Caps.ARRAYS)
def A7_any_thread_may_call(rank: Rank) -> None:
    """Any thread may send and receive, and what one has received any other may read and compute with."""
    import mlx.core as mx

    wanted = bits((300,), "float32", 3)
    if rank.rank == 0:
        Background(lambda: _send(rank, wanted, 1)).result()
        return
    came = Background(lambda: rank.arrays.recv_array(wanted.shape, wanted.dtype, 0, soon())).result()
    check(same(came, wanted), "an array that another thread received has other bits here")
    mx.eval(came + 1)


@case(needs=Caps.ARRAYS)
def A8_a_strided_array_is_refused(rank: Rank) -> None:
    """An array whose memory is not contiguous is a ValueError before anything moves: MLX would send other memory."""
    import mlx.core as mx

    whole = bits((8, 6), "float32")
    strided = (whole.T, whole[:, ::2], mx.broadcast_to(whole[0], (3, 6)))
    mx.eval(*strided)
    if rank.rank == 0:
        for array in strided:
            with raises(ValueError, within_s=PROMPT_S):
                _send(rank, array, 1)
        _send(rank, whole, 1)
    else:
        _expect(rank, whole, 0, "the array after the refused ones")


@case(needs=Caps.ARRAYS)
def A9_an_empty_array_does_no_harm(rank: Rank) -> None:
    """An array without elements crosses, or is a ValueError at both ends at once; the group is whole after it."""
    empty, whole = bits((0, 4), "bfloat16"), bits((5,), "bfloat16")
    try:
        if rank.rank == 0:
            Background(lambda: _send(rank, empty, 1)).result(PROMPT_S)
        else:
            Background(lambda: _expect(rank, empty, 0, "an empty array")).result(PROMPT_S)
        refused = b""
    except ValueError:
        refused = b"refused"
    answers = rank.all_gather(refused)
    check(answers[0] == answers[1], "one end refused an empty array, the other did not")
    if rank.rank == 0:
        _send(rank, whole, 1)
    else:
        _expect(rank, whole, 0, "the array after an empty one")


@case(needs=Caps.ARRAYS, slow=True, limit_s=300.0)
def A10_an_array_may_exceed_2_GiB(rank: Rank) -> None:
    """An array may be larger than 2 GiB. Both ranks of one machine take 7 GiB of memory."""
    import mlx.core as mx

    piece, rows = bits((1 << 20,), "uint8"), 2049
    if rank.rank == 0:
        whole = mx.contiguous(mx.broadcast_to(piece, (rows, 1 << 20)))
        mx.eval(whole)
        rank.arrays.send_array(whole, 1, soon(240))
        return
    came = rank.arrays.recv_array((rows, 1 << 20), mx.uint8, 0, soon(240))
    wrong = [row for row in range(rows) if not mx.array_equal(came[row], piece).item()]
    check(not wrong, f"MiB {wrong[:3]} came as other bytes")
