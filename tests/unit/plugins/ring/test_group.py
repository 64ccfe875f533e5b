"""Arrays and collectives in a formed ring, and the end of it when a peer dies."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from nova.wire.tensor import DTYPE_SIZES
from tests.unit.plugins.ring.ranks import Rank, ring

HOURS_OF_WORK = 64 << 20
"""float32s that no socket buffers hold: a send of them waits for its receiver."""


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Rank]]:
    with ring(2) as members:
        yield members


def transferred(source: Rank, target: Rank, **what: object) -> object:
    target.tell(do="recv", peer=source.rank, **what)
    assert source.does("send", peer=target.rank, **what) == {"done": None}
    return target.says()["done"]


@pytest.mark.parametrize("dtype", sorted(DTYPE_SIZES))
def test_arrays_of_every_dtype_arrive_as_they_were_sent(pair: list[Rank], dtype: str) -> None:
    assert transferred(pair[0], pair[1], dtype=dtype)
    assert transferred(pair[1], pair[0], dtype=dtype)


@pytest.mark.parametrize("count", [1, 3, 255, 1024, 1025, 1 << 20, (1 << 22) + 1])
def test_arrays_of_any_size_arrive(pair: list[Rank], count: int) -> None:
    assert transferred(pair[0], pair[1], count=count)


def test_arrays_arrive_in_order(pair: list[Rank]) -> None:
    for seed in range(5):
        pair[0].tell(do="send", peer=1, seed=seed)
    for seed in range(5):
        assert pair[1].does("recv", peer=0, seed=seed) == {"done": True}
    assert [pair[0].says() for _ in range(5)] == [{"done": None}] * 5


def test_an_empty_array_crosses_without_a_transfer(pair: list[Rank]) -> None:
    assert pair[1].does("recv", peer=0, count=0) == {"done": True}
    assert pair[0].does("send", peer=1, count=0) == {"done": None}
    assert transferred(pair[0], pair[1])


def test_an_array_that_is_not_contiguous_is_refused_and_the_group_stays_whole(pair: list[Rank]) -> None:
    assert pair[0].does("send in a column", peer=1)["error"] == "ValueError"
    assert transferred(pair[0], pair[1])


@pytest.mark.parametrize(("name", "expected"), [
    ("all_sum", [3, -1]), ("all_max", [2, 0]), ("all_min", [1, -1]), ("all_gather", [1, 0, 2, -1]),
])  # fmt: skip
def test_the_collectives_that_are_declared_work(pair: list[Rank], name: str, expected: list[int]) -> None:
    for member in pair:
        member.tell(do="collective", name=name)
    assert [member.says()["done"] for member in pair] == [expected, expected]


def test_a_thread_receives_while_another_sends(pair: list[Rank]) -> None:
    for member in pair:
        member.tell(do="recv while sending", peer=1 - member.rank, count=HOURS_OF_WORK >> 4)
    assert [member.says() for member in pair] == [{"waiting": True}] * 2
    for member in pair:  # both wait for the other now: only a send beside the receive can end it
        member.tell()
    assert [member.says() for member in pair] == [{"done": True}] * 2


def test_only_neighbours_are_reached() -> None:
    with ring(4) as members:
        for peer in (0, 2):
            answer = members[0].does("send", peer=peer)
            assert answer["error"] == "ValueError"
            assert "neighbours only" in answer["text"]
            assert members[0].does("recv", peer=peer)["error"] == "ValueError"
        for source in members:
            for step in (1, -1):
                assert transferred(source, members[(source.rank + step) % 4])


@pytest.mark.parametrize("doing", ["recv", "send"])
def test_a_peer_killed_in_a_transfer_is_lost_and_the_next_call_is_refused_at_once(doing: str) -> None:
    with ring(2) as members:
        members[0].tell(do=doing, peer=1, count=HOURS_OF_WORK)
        with pytest.raises(AssertionError, match="silent"):
            members[0].says(0.5)
        members[1].process.send_signal(signal.SIGKILL)
        answer = members[0].says(10.0)
        assert answer["error"] == "PeerLost"
        assert "rank 1 is gone" in answer["text"]
        for again in ("recv", "send"):
            answer = members[0].does(again, peer=1)
            assert answer["error"] == "GroupBroken"
            assert "rank 1 is gone" in answer["text"]


def test_a_closed_group_refuses_every_call_and_its_peer_sees_the_end_after_what_was_sent() -> None:
    with ring(2) as members:
        assert members[0].does("send", peer=1, count=1024) == {"done": None}
        assert members[0].does("close") == {"done": None}
        for call in ("recv", "send"):
            assert members[0].does(call, peer=1)["error"] == "GroupClosed"
        assert members[0].does("close") == {"done": None}
        assert members[1].does("recv", peer=0, count=1024) == {"done": True}
        assert members[1].does("recv", peer=0)["error"] == "PeerLost"


def test_a_broken_group_lets_its_other_neighbour_know() -> None:
    with ring(3) as members:
        members[0].tell(do="recv", peer=1)
        members[2].process.send_signal(signal.SIGKILL)
        assert members[1].does("recv", peer=2)["error"] == "PeerLost"
        assert members[0].says()["error"] == "PeerLost"


def test_an_abort_ends_a_call_that_waits() -> None:
    with ring(2) as members:
        assert members[0].does("abort while receiving", peer=1) == {"waiting": True}
        members[0].tell()
        assert members[0].says(10.0)["error"] == "GroupClosed"
        assert members[0].does("send", peer=1)["error"] == "GroupClosed"


def test_a_process_whose_ring_broke_ends_when_it_is_done() -> None:
    with ring(2) as members:
        members[1].process.send_signal(signal.SIGKILL)
        assert members[0].does("recv", peer=1)["error"] == "PeerLost"
        assert members[0].process.stdin is not None
        members[0].process.stdin.close()
        assert members[0].process.wait(10.0) == 0
