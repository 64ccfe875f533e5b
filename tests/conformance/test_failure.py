"""What goes wrong is said, in time, and stays said."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from nova.clock import Deadline
from nova.errors import GroupBroken, GroupClosed, LengthMismatch, PeerLost, TransferTimeout
from nova.transport.api import ByteGroup

from .harness import Background, Harness, soon, with_process

BIG = 64 << 20
"""More than every buffer between two ranks holds."""


@pytest.fixture
def crossing(harness: Harness) -> Harness:
    if not harness.process:
        pytest.skip("cannot cross processes")
    return harness


@pytest.mark.parametrize(("sent", "awaited"), [(10, 8), (8, 10), (1, 0), (0, 1), (3 << 20, 1 << 20), (16, 3 << 20)])
def test_another_length_is_a_mismatch_and_breaks_the_group(harness: Harness, sent: int, awaited: int) -> None:
    with harness.group() as (left, right):
        sending = Background(lambda: left.send([bytes(sent)], 1, soon()))
        out = bytearray(b"\xff" * awaited)
        with pytest.raises(LengthMismatch):
            right.recv_into(out, 0, soon())
        assert out == b"\xff" * awaited, "not a byte of the wrong part may be delivered"
        for _ in range(2):
            with pytest.raises(GroupBroken):
                right.recv_into(out, 0, soon())
            with pytest.raises(GroupBroken):
                right.send([b"x"], 0, soon())
        right.abort()
        try:
            sending.result()
        except PeerLost:
            assert sent > 1 << 20, "a small part is sent before the peer looks at it"


def test_a_timeout_with_nothing_arrived_leaves_the_group_whole(harness: Harness) -> None:
    with harness.group() as (left, right):
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(TransferTimeout):
                right.recv_into(bytearray(5), 0, soon(0.05))
            assert 0.04 < time.monotonic() - begun < 1.0
        left.send([b"still"], 1, soon())
        right.recv_into(out := bytearray(5), 0, soon())
        right.send([b"whole"], 0, soon())
        left.recv_into(back := bytearray(5), 1, soon())
    assert [out, back] == [b"still", b"whole"]


def test_a_deadline_that_has_passed_still_takes_what_is_there(harness: Harness) -> None:
    with harness.group() as (left, right):
        left.send([b"a", b"b"], 1, soon())
        right.recv_into(bytearray(1), 0, soon())
        right.recv_into(out := bytearray(1), 0, soon(0))
    assert out == b"b"


def test_a_send_that_nobody_reads_ends_by_its_deadline_and_breaks_the_group(harness: Harness) -> None:
    with harness.group() as (left, _):
        begun = time.monotonic()
        with pytest.raises(TransferTimeout):
            left.send([bytes(BIG), bytes(BIG)], 1, soon(0.2))
        assert time.monotonic() - begun < 1.5
        with pytest.raises(GroupBroken):
            left.send([b"x"], 1, soon())


@pytest.mark.parametrize(
    "call", [lambda g: g.send([bytes(BIG)] * 3, 1, soon(30)), lambda g: g.recv_into(bytearray(9), 1, soon(30))]
)
def test_abort_wakes_a_blocked_call(harness: Harness, call: Callable[[ByteGroup], None]) -> None:
    with harness.group() as (left, _):
        blocked = Background(lambda: call(left))
        with pytest.raises(AssertionError, match="still blocked"):
            blocked.result(within_s=0.1)
        begun = time.monotonic()
        left.abort()
        assert time.monotonic() - begun < 0.5, "abort never blocks"
        with pytest.raises(GroupClosed):
            blocked.result(within_s=1.0)


def test_abort_wakes_a_sender_and_a_receiver_at_once(harness: Harness) -> None:
    with harness.group(3) as (left, _, _):
        blocked = [
            Background(lambda: left.send([bytes(BIG)] * 3, 1, soon(30))),
            Background(lambda: left.recv_into(bytearray(9), 2, soon(30))),
        ]
        with pytest.raises(AssertionError, match="still blocked"):
            blocked[0].result(within_s=0.1)
        left.abort()
        for call in blocked:
            with pytest.raises(GroupClosed):
                call.result(within_s=1.0)


def test_closing_twice_and_aborting_after_is_fine_and_calls_are_refused(harness: Harness) -> None:
    with harness.group() as (left, right):
        left.close(soon())
        left.close(soon())
        left.abort()
        with pytest.raises(GroupClosed):
            left.send([b"x"], 1, soon())
        with pytest.raises(GroupClosed):
            left.recv_into(bytearray(1), 1, soon())
        right.abort()
        right.close(soon())


@pytest.mark.parametrize("sender", [0, 1])
@pytest.mark.parametrize("size", [1 << 20, 5 << 20])
def test_what_was_sent_before_a_close_arrives_and_then_the_peer_is_lost(
    harness: Harness, sender: int, size: int
) -> None:
    data = bytes(range(256)) * (size // 256)
    with harness.group() as groups:
        left, right = groups[sender], groups[1 - sender]
        sending = Background(lambda: _send_and_close(left, [b"head", data], right.rank))
        right.recv_into(head := bytearray(4), sender, soon())
        right.recv_into(out := bytearray(size), sender, soon())
        assert head == b"head"
        assert out == data
        with pytest.raises(PeerLost) as lost:
            right.recv_into(bytearray(1), sender, soon(2))
        assert lost.value.rank == sender
        with pytest.raises(GroupBroken):
            right.recv_into(bytearray(1), sender, soon())
        sending.result()


def _send_and_close(group: ByteGroup, parts: list[bytes], dst: int) -> None:
    group.send(parts, dst, soon())
    group.close(soon())


def test_a_peer_killed_while_we_wait_for_it_is_lost(crossing: Harness) -> None:
    with with_process(crossing) as (group, child):
        waiting = Background(lambda: group.recv_into(bytearray(4), 1, soon(30)))
        with pytest.raises(AssertionError, match="still blocked"):
            waiting.result(within_s=0.1)
        child.kill()
        with pytest.raises(PeerLost):
            waiting.result(within_s=2.0)
        with pytest.raises(GroupBroken):
            group.recv_into(bytearray(4), 1, soon())


def test_a_peer_killed_while_it_does_not_read_is_lost(crossing: Harness) -> None:
    with with_process(crossing) as (group, child):
        sending = Background(lambda: group.send([bytes(BIG)] * 3, 1, soon(30)))
        with pytest.raises(AssertionError, match="still blocked"):
            sending.result(within_s=0.1)
        child.kill()
        with pytest.raises(PeerLost):
            sending.result(within_s=2.0)


@pytest.mark.parametrize("call", ["send", "recv"])
def test_a_peer_killed_while_idle_is_lost_at_the_next_calls(crossing: Harness, call: str) -> None:
    with with_process(crossing) as (group, child):
        child.tell("recv 0 4")
        group.send([b"once"], 1, soon())
        assert child.heard() == "done"
        child.kill()
        with pytest.raises(PeerLost) as lost:
            _keep_calling(group, call, soon(2.0))
        assert lost.value.rank == 1


def _keep_calling(group: ByteGroup, call: str, end: Deadline) -> None:
    """A first send may still go into a buffer of our own side."""
    while not end.expired:
        if call == "send":
            group.send([b"more"], 1, end)
        else:
            group.recv_into(bytearray(4), 1, end)
