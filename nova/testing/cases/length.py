"""N: a part of another length than was awaited."""

from __future__ import annotations

from nova.errors import GroupBroken, LengthMismatch
from nova.testing.case import Case, add
from nova.testing.checks import PROMPT_S, Background, check, raises, soon
from nova.testing.rank import Rank
from nova.transport.api import Caps

MARK = b"\xa5"

LENGTHS = (
    ("N1_a_longer_part_is_a_mismatch", 10, 8),
    ("N2_a_shorter_part_is_a_mismatch", 8, 10),
    ("N3_a_part_where_an_empty_one_was_awaited_is_a_mismatch", 1, 0),
    ("N4_an_empty_part_is_a_mismatch", 0, 1),
    ("N5_a_large_longer_part_is_a_mismatch", 3 << 20, 1 << 20),
    ("N6_a_large_shorter_part_is_a_mismatch", 1 << 20, 3 << 20),
    ("N7_a_small_part_where_a_large_one_was_awaited_is_a_mismatch", 16, 3 << 20),
)
"""Name, bytes sent, bytes awaited."""

PROMISE = "A part of another length than was awaited raises LengthMismatch, delivers nothing and breaks the group."


def _mismatch(rank: Rank, sent: int, awaited: int) -> None:
    if rank.rank == 0:
        Background(lambda: rank.parts.send([bytes(sent)], 1, soon()))  # blocked for ever, if it is large
        rank.all_gather()
        return
    out = bytearray(MARK * awaited)
    with raises(LengthMismatch):
        rank.parts.recv_into(out, 0, soon())
    check(out == MARK * awaited, f"of {sent} bytes where {awaited} were awaited, some were delivered")
    for _ in range(2):
        with raises(GroupBroken, within_s=PROMPT_S):
            rank.parts.recv_into(out, 0, soon())
        with raises(GroupBroken, within_s=PROMPT_S):
            rank.parts.send([b"x"], 0, soon())
    rank.all_gather()


def _register(name: str, sent: int, awaited: int) -> None:
    add(Case(name, lambda rank: _mismatch(rank, sent, awaited), PROMISE, needs=Caps.BYTES))


for _row in LENGTHS:
    _register(*_row)
