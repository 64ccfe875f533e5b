"""A group comes up with the right peers, or says by the deadline why not; strangers disturb neither."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import MAX_CARD_BYTES, ByteGroup, Caps, Endpoint

from .harness import Background, Harness, NoRendezvous, join_all, soon


def test_a_group_knows_its_rank_size_and_promises(harness: Harness) -> None:
    with harness.group(3) as groups:
        assert [(group.rank, group.size) for group in groups] == [(0, 3), (1, 3), (2, 3)]
        probed = harness.make().probe(["127.0.0.1"])
        assert all(group.caps == probed.caps for group in groups)
        assert Caps.AUTHENTICATED in probed.caps


def test_a_missing_peer_ends_the_join_by_its_deadline_and_is_named(harness: Harness) -> None:
    seats = [harness.seat(rank, 3) for rank in range(3)]
    endpoints = [harness.make().open(seat) for seat in seats]
    cards = [endpoint.card() for endpoint in endpoints]
    endpoints[1].close()
    begun = time.monotonic()
    outcomes = join_all([endpoints[0], endpoints[2]], cards, join_s=0.4)
    assert time.monotonic() - begun < 1.5
    assert all(isinstance(outcome, FormingFailed) and "rank 1" in outcome.cause for outcome in outcomes), outcomes


@pytest.mark.parametrize("change", [{"ticket": b"x" * 32}, {"generation": 2}, {"group": "other"}])
@pytest.mark.parametrize("odd", [0, 1])
def test_a_peer_of_another_group_is_refused(harness: Harness, change: dict[str, object], odd: int) -> None:
    seats = [harness.seat(0, 2), harness.seat(1, 2)]
    seats[odd] = replace(seats[odd], **change)  # type: ignore[arg-type]
    outcomes = harness.join(seats, join_s=0.25)
    assert all(isinstance(outcome, FormingFailed) for outcome in outcomes), outcomes


def test_a_second_group_forms_in_the_same_process(harness: Harness) -> None:
    for generation in (1, 2):
        outcomes = harness.join([harness.seat(rank, 2, generation=generation) for rank in range(2)])
        groups = [outcome for outcome in outcomes if isinstance(outcome, ByteGroup)]
        assert len(groups) == 2, outcomes
        for group in groups:
            group.abort()


def test_a_malformed_card_is_an_error_that_names_its_rank(harness: Harness) -> None:
    for card in (b"", b"\xff\x00", b"{}", b'{"host": 5}'):
        endpoint = harness.make().open(harness.seat(1, 2))
        with pytest.raises(FormingFailed, match="rank 0"):
            endpoint.join([card, endpoint.card()], NoRendezvous(), soon(1))
        endpoint.close()


def test_opening_and_closing_leaves_nothing(harness: Harness) -> None:
    with nothing_left():
        for _ in range(3):
            endpoint = harness.make().open(harness.seat(0, 4))
            assert len(endpoint.card()) <= MAX_CARD_BYTES
            endpoint.close()
            endpoint.close()


@pytest.mark.parametrize("end", [lambda group: group.close(soon()), lambda group: group.abort()])
def test_a_group_that_ended_leaves_nothing(harness: Harness, end: Callable[[ByteGroup], None]) -> None:
    with nothing_left(), harness.group(3) as groups:
        groups[0].send([b"x"], 1, soon())
        for group in groups:
            end(group)


def test_a_join_that_failed_leaves_nothing(harness: Harness) -> None:
    with nothing_left():
        harness.join([harness.seat(0, 2), harness.seat(1, 2, ticket=b"y" * 32)], join_s=0.2)


def test_abort_under_a_blocked_call_leaves_nothing(harness: Harness) -> None:
    with nothing_left(), harness.group() as (left, _):
        blocked = Background(lambda: left.recv_into(bytearray(1), 1, soon()))
        with pytest.raises(AssertionError, match="still blocked"):
            blocked.result(within_s=0.05)
        left.abort()
        with contextlib.suppress(Exception):
            blocked.result()


@pytest.fixture
def listening(harness: Harness) -> Harness:
    if not harness.listens:
        pytest.skip("opens no port")
    return harness


def test_strangers_at_the_port_do_not_disturb_a_join(listening: Harness) -> None:
    """A thousand of them: some talk rubbish, some say nothing and stay, some come and go, some replay a hello."""
    endpoints = [listening.make().open(listening.seat(rank, 3)) for rank in range(3)]
    cards = [endpoint.card() for endpoint in endpoints]
    with strangers(ports(endpoints[0]) + ports(endpoints[1]), 1000):
        begun = time.monotonic()
        outcomes = join_all(endpoints, cards)
        assert time.monotonic() - begun < 5
    groups = [outcome for outcome in outcomes if isinstance(outcome, ByteGroup)]
    assert len(groups) == 3, outcomes
    pass_round(groups)
    for group in groups:
        group.abort()


def test_strangers_at_the_port_do_not_disturb_a_group(listening: Harness) -> None:
    endpoints = [listening.make().open(listening.seat(rank, 3)) for rank in range(3)]
    where = ports(endpoints[0]) + ports(endpoints[1])
    groups = [
        each for each in join_all(endpoints, [endpoint.card() for endpoint in endpoints]) if isinstance(each, ByteGroup)
    ]
    assert len(groups) == 3
    waiting = Background(lambda: groups[1].recv_into(bytearray(4), 2, soon()))
    with strangers(where, 1000):
        for _ in range(20):
            pass_round(groups, skip=1)
    groups[2].send([b"here"], 1, soon())
    waiting.result()
    for group in groups:
        group.abort()


def pass_round(groups: list[ByteGroup], skip: int | None = None) -> None:
    """Every rank sends a part to every other; `skip` names one whose receiving side is busy."""
    for group in groups:
        for dst in range(len(groups)):
            if dst not in (group.rank, skip):
                group.send([bytes([group.rank]) * 20_000], dst, soon())
    for group in groups:
        for src in range(len(groups)):
            if src != group.rank and group.rank != skip:
                group.recv_into(out := bytearray(20_000), src, soon())
                assert set(out) == {src}


def ports(endpoint: Endpoint) -> list[int]:
    return [int(port) for port in re.findall(rb"\b\d{4,5}\b", endpoint.card())]


RUBBISH = [
    b"",
    b"\x00" * 64,
    b"GET / HTTP/1.1\r\n\r\n",
    b"NVT1" + bytes(60),
    b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03",
]


@contextlib.contextmanager
def strangers(where: list[int], count: int) -> Iterator[None]:
    """Connections to the ports, some before the body and the rest from another thread during it."""
    held: list[socket.socket] = []
    done = threading.Event()

    def knock(index: int) -> None:
        with contextlib.suppress(OSError):  # refused, reset: as it should be
            sock = socket.create_connection(("127.0.0.1", where[index % len(where)]), timeout=1)
            held.append(sock)
            sock.send(RUBBISH[index % len(RUBBISH)] + os.urandom(index % 7))
        if len(held) > 200:
            held.pop(0).close()

    def knock_on() -> None:
        for index in range(count // 5, count):
            if done.is_set():
                return
            knock(index)

    for index in range(count // 5):
        knock(index)
    crowd = Background(knock_on)
    try:
        yield
    finally:
        done.set()
        crowd.result(10)
        for sock in held:
            sock.close()


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """No descriptor or thread more than before, once the system had a moment to end them."""
    before = _held()
    yield
    end = Deadline.after(2)
    pause = threading.Event()
    while _held() > before and not end.expired:
        pause.wait(0.01)
    assert _held() <= before


def _held() -> tuple[int, int]:
    descriptors = os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")
    tasks = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else threading.active_count()
    return len(descriptors), tasks
