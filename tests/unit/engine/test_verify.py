"""VERIFY lets the right neighbours pass and nobody else, and measures the link that there is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import combinations

import pytest

from nova.clock import Deadline
from nova.engine.lanes import Lanes
from nova.engine.verify import STAMP_BYTES, stamp, verify
from nova.errors import FormingFailed, TransportError
from nova.transport.api import Buffer, Caps, Seat, WritableBuffer
from nova.transport.memory import Hub, MemoryGroup
from nova.wire.values import EngineKey, LinkMeasure
from tests.unit.engine.ranks import CAPACITY, at_once, groups, seat

LATENCY_S = 0.01
BANDWIDTH = 50e6


class Misled(MemoryGroup):
    """What should come from rank `instead[0]` comes from rank `instead[1]`."""

    instead = (0, 0)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        super().recv_into(out, self.instead[1] if src == self.instead[0] else src, deadline)


class Forged(MemoryGroup):
    """What comes from rank `forger` has one bit changed."""

    forger = 0

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        super().recv_into(out, src, deadline)
        if src == self.forger:
            out[0] ^= 1


class Garbling(MemoryGroup):
    """The end of every large part is not what was sent."""

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        super().recv_into(out, src, deadline)
        if len(out) > STAMP_BYTES:
            out[-1] ^= 1


class Slow(MemoryGroup):
    """Each part takes its time on the way."""

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        time.sleep(LATENCY_S + sum(map(len, parts)) / BANDWIDTH)  # stands for the cable
        super().send(parts, dst, deadline)


def made(size: int, special: type[MemoryGroup], at: int = -1) -> list[MemoryGroup]:
    """The groups of all ranks; `special` is the class of the one at rank `at`, -1 for all."""
    hub = Hub()
    return [(special if at in (-1, rank) else MemoryGroup)(hub, seat(rank, size), CAPACITY) for rank in range(size)]


def outcomes(
    connected: Sequence[MemoryGroup], seats: list[Seat] | None = None, limit_s: float = 10.0
) -> list[LinkMeasure | TransportError]:
    """What each rank finds. One that fails takes its group down, as an engine does by ending."""

    def one(group: MemoryGroup, mine: Seat) -> LinkMeasure | TransportError:
        try:
            return verify(Lanes(group), mine, "memory", Deadline.after(limit_s))
        except TransportError as error:
            group.abort()
            return error

    seats = seats or [seat(group.rank, group.size) for group in connected]
    jobs = [lambda group=group, mine=mine: one(group, mine) for group, mine in zip(connected, seats, strict=True)]
    return at_once(jobs)


def failed(found: Sequence[LinkMeasure | TransportError]) -> dict[int, str]:
    return {error.rank: error.cause for error in found if isinstance(error, FormingFailed)}


@pytest.mark.parametrize("size", [2, 3, 4])
def test_right_neighbours_pass_and_measure_their_link_to_the_right(size: int) -> None:
    for rank, link in enumerate(outcomes(groups(size))):
        assert isinstance(link, LinkMeasure), link
        assert link.peer == (rank + 1) % size


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("wrong", [{"ticket": b"x" * 32}, {"generation": 0}], ids=["ticket", "generation"])
@pytest.mark.parametrize("odd", ["first", "last"])
def test_a_rank_with_another_ticket_or_generation_fails_and_is_named(
    size: int, wrong: dict[str, object], odd: str
) -> None:
    stranger = 0 if odd == "first" else size - 1
    seats = [seat(rank, size, **(wrong if rank == stranger else {})) for rank in range(size)]  # type: ignore[arg-type]
    causes = failed(outcomes(groups(size), seats))
    assert causes
    for rank, cause in causes.items():
        others = {(rank + 1) % size, (rank - 1) % size} if rank == stranger else {stranger}
        assert cause in {
            f"rank {other} showed a wrong stamp: a stranger, another generation, or swapped ranks" for other in others
        }


@pytest.mark.parametrize(("at", "forger"), [(0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2)])
def test_every_direction_of_every_pair_is_proved(at: int, forger: int) -> None:
    connected = made(3, Forged, at)
    connected[at].forger = forger  # type: ignore[attr-defined]
    causes = failed(outcomes(connected))
    assert causes[at].startswith(f"rank {forger} showed a wrong stamp")
    assert set(causes) == {at}


def test_a_lane_that_leads_to_the_wrong_rank_lets_nobody_pass() -> None:
    connected = made(3, Misled, 1)
    connected[1].instead = (0, 2)  # type: ignore[attr-defined]
    assert all(isinstance(found, TransportError) for found in outcomes(connected, limit_s=0.5))


def test_a_group_that_gives_another_rank_or_size_is_refused_before_a_byte_is_sent() -> None:
    first, second = groups(2)
    for mine in (seat(1, 2), seat(0, 3)):
        with pytest.raises(FormingFailed, match=rf"rank 0 of 2, expected {mine.rank} of {mine.size}"):
            verify(Lanes(first), mine, "memory", Deadline.after(1.0))
    assert not any(lane.parts for lane in second._in.values())


@pytest.mark.parametrize(
    ("caps", "what"),
    [(MemoryGroup.caps & ~Caps.BYTES, "BYTES"), (MemoryGroup.caps | Caps.COLLECTIVES, "COLLECTIVES")],
)
def test_a_group_that_is_not_what_it_declares_is_refused(caps: Caps, what: str) -> None:
    first, _ = groups(2)
    first.caps = caps
    with pytest.raises(FormingFailed, match=f"MemoryGroup and its declared {what} do not agree"):
        verify(Lanes(first), seat(0, 2), "memory", Deadline.after(1.0))


@pytest.mark.parametrize("at", [0, 1, -1])
def test_a_link_that_changes_what_is_longer_than_a_stamp_lets_nobody_pass_in_either_direction(at: int) -> None:
    found = outcomes(made(2, Garbling, at))
    assert all(isinstance(each, TransportError) for each in found)
    assert any("bytes came from rank" in cause for cause in failed(found).values())


def test_a_group_that_lacks_what_carrying_headers_takes_is_refused() -> None:
    first, _ = groups(2)
    first.caps = MemoryGroup.caps & ~Caps.PEER_FAILURE
    with pytest.raises(FormingFailed, match="MemoryGroup lacks PEER_FAILURE, which its transport offered"):
        verify(Lanes(first), seat(0, 2), "memory", Deadline.after(1.0))


def test_the_measure_is_the_link_s_latency_and_bandwidth() -> None:
    for link in outcomes(made(2, Slow)):
        assert isinstance(link, LinkMeasure), link
        assert LATENCY_S <= link.latency_s < 1.5 * LATENCY_S
        assert BANDWIDTH / 1.5 < link.bandwidth_bytes_s < 1.5 * BANDWIDTH


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
