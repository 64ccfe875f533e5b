"""T9 to T14: threads, ranks and amounts."""

from __future__ import annotations

from collections.abc import Callable

from nova.testing.case import case
from nova.testing.cases.transfer import PIECE, PIECES, noise, take
from nova.testing.checks import BLOCKED_S, Background, check, soon
from nova.testing.rank import Rank
from nova.transport.api import Caps

HUGE = (2 << 30) + 4097
"""Bytes; more than a signed 32-bit length can say."""


@case(needs=Caps.BYTES | Caps.FULL_DUPLEX)
def T9_both_directions_at_once(rank: Rank) -> None:
    """With FULL_DUPLEX each rank sends in one thread while it receives in another, more than all buffers hold."""
    rounds, peer = 5, 1 - rank.rank
    ours, theirs = noise(3 << 20, rank.rank), noise(3 << 20, peer)

    def receive() -> None:
        for index in range(rounds):
            check(take(rank, len(theirs), peer) == theirs, f"part {index} came as other bytes")

    receiving = Background(receive)
    receiving.blocked()
    rank.all_gather()
    for _ in range(rounds):
        rank.parts.send([ours], peer, soon())
    receiving.result()


@case(needs=Caps.BYTES)
def T10_two_threads_may_call_at_once(rank: Rank) -> None:
    """Any two threads may send and receive at once; without FULL_DUPLEX one waits for the other."""
    peer, rounds = 1 - rank.rank, 20

    def send() -> None:
        for index in range(rounds):
            rank.parts.send([noise(1000, index)], peer, soon())

    def receive() -> None:
        for index in range(rounds):
            check(take(rank, 1000, peer) == noise(1000, index), f"part {index} came as other bytes")

    if rank.rank == 0:
        receiving = Background(receive)
        receiving.blocked()
        sending = Background(send)
        sending.wait(BLOCKED_S)  # sent beside the receive, or waiting for it
        rank.all_gather()
        receiving.result()
        sending.result()
    else:
        rank.all_gather()
        send()
        receive()


def _exchange(rank: Rank, reaches: Callable[[int, int], bool]) -> None:
    """Every rank sends to each that it reaches, then takes from each that reaches it, last rank first."""
    for dst in range(rank.size):
        if reaches(rank.rank, dst):
            rank.parts.send([bytes([rank.rank, dst])], dst, soon())
    for src in reversed(range(rank.size)):
        if reaches(src, rank.rank):
            came = take(rank, 2, src)
            check(came == bytes([src, rank.rank]), f"from rank {src} came {bytes(came)!r}")


@case(ranks=3, needs=Caps.BYTES)
def T11_neighbours_reach_each_other(rank: Rank) -> None:
    """Every rank reaches its two neighbours on the ring of ranks."""
    _exchange(rank, lambda src, dst: dst in ((src + 1) % 3, (src - 1) % 3))


@case(ranks=4, needs=Caps.BYTES | Caps.ANY_PAIR)
def T12_any_rank_reaches_any_other(rank: Rank) -> None:
    """With ANY_PAIR every rank reaches every other; parts of different ranks do not mix."""
    _exchange(rank, lambda src, dst: src != dst)


@case(needs=Caps.BYTES)
def T13_a_sender_waits_for_a_slow_receiver(rank: Rank) -> None:
    """A send that no buffer can hold waits for its receiver, and then goes through."""
    if rank.rank == 0:
        sending = Background(lambda: rank.parts.send([PIECE] * PIECES + [b"end"], 1, soon()))
        sending.blocked()
        rank.all_gather()
        sending.result()
        return
    rank.all_gather()
    for _ in range(PIECES):
        check(take(rank, len(PIECE), 0) == PIECE, "other bytes came")
    check(take(rank, 3, 0) == b"end", "other bytes came")


@case(needs=Caps.BYTES, slow=True, limit_s=300.0)
def T14_a_part_may_exceed_2_GiB(rank: Rank) -> None:
    """A part may be larger than 2 GiB. Both ranks of one machine take 5 GiB of memory."""
    piece = noise(1 << 20)
    whole = HUGE // len(piece)
    if rank.rank == 0:
        data = bytearray(HUGE)
        for index in range(whole):
            data[index << 20 : (index + 1) << 20] = piece
        rank.parts.send([data], 1, soon(240))
        return
    out = bytearray(HUGE)
    rank.parts.recv_into(out, 0, soon(240))
    view = memoryview(out)
    wrong = [index for index in range(whole) if view[index << 20 : (index + 1) << 20] != piece]
    check(not wrong and not any(view[whole << 20 :]), f"MiB {wrong[:3]} or the end came as other bytes")
