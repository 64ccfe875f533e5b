"""VERIFY lets the right neighbours pass and nobody else."""

from __future__ import annotations

from itertools import combinations

import pytest

from nova.clock import Deadline
from nova.engine.lanes import Lanes
from nova.engine.verify import STAMP_BYTES, stamp, verify
from nova.errors import FormingFailed, TransportError
from nova.transport.api import Seat
from nova.transport.memory import MemoryGroup
from nova.wire.values import EngineKey
from tests.unit.engine.ranks import at_once, groups, seat


def outcomes(connected: list[MemoryGroup], seats: list[Seat]) -> list[float | TransportError]:
    """What each rank finds. One that fails takes its group down, as an engine does by ending."""

    def one(group: MemoryGroup, mine: Seat) -> float | TransportError:
        try:
            return verify(Lanes(group), mine, "memory", Deadline.after(10.0)).latency_s
        except TransportError as error:
            group.abort()
            return error

    jobs = [lambda group=group, mine=mine: one(group, mine) for group, mine in zip(connected, seats, strict=True)]
    return at_once(jobs)


def failed(found: list[float | TransportError]) -> dict[int, str]:
    return {error.rank: error.cause for error in found if isinstance(error, FormingFailed)}


@pytest.mark.parametrize("size", [2, 3, 4])
def test_right_neighbours_pass_and_measure_their_link(size: int) -> None:
    found = outcomes(groups(size), [seat(rank, size) for rank in range(size)])
    assert all(isinstance(echo_s, float) and 0 < echo_s < 10 for echo_s in found), found


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("wrong", [{"ticket": b"x" * 32}, {"generation": 0}], ids=["ticket", "generation"])
def test_a_rank_with_another_ticket_or_generation_fails_and_is_named(size: int, wrong: dict[str, object]) -> None:
    seats = [seat(rank, size) for rank in range(size - 1)] + [seat(size - 1, size, **wrong)]  # type: ignore[arg-type]
    causes = failed(outcomes(groups(size), seats))
    assert set(causes) & {0, size - 1}
    assert all(cause == f"rank {(rank - 1) % size} showed a wrong stamp" for rank, cause in causes.items())


def test_lanes_that_lead_to_the_wrong_rank_are_found() -> None:
    connected = groups(3)
    connected[1]._in[0], connected[2]._in[1] = connected[2]._in[1], connected[1]._in[0]
    causes = failed(outcomes(connected, [seat(rank, 3) for rank in range(3)]))
    assert causes
    assert set(causes) <= {1, 2}


def test_a_group_that_gives_another_rank_or_size_is_refused_before_a_byte_is_sent() -> None:
    first, second = groups(2)
    for mine in (seat(1, 2), seat(0, 3)):
        with pytest.raises(FormingFailed, match=rf"rank 0 of 2, expected {mine.rank} of {mine.size}"):
            verify(Lanes(first), mine, "memory", Deadline.after(1.0))
    assert not second._in[0].parts


def test_a_stamp_holds_for_one_ticket_generation_source_and_destination() -> None:
    key = EngineKey("main", 1, 0)
    stamps = [
        stamp(b"t", key, 0, 1),
        stamp(b"u", key, 0, 1),
        stamp(b"t", EngineKey("main", 2, 0), 0, 1),
        stamp(b"t", EngineKey("other", 1, 0), 0, 1),
        stamp(b"t", key, 1, 0),
        stamp(b"t", key, 0, 2),
    ]
    assert all(len(each) == STAMP_BYTES for each in stamps)
    assert all(one != other for one, other in combinations(stamps, 2))
