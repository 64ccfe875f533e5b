"""F: what goes wrong is said, in time, and stays said."""

from __future__ import annotations

from collections.abc import Callable

from nova.errors import GroupBroken, GroupClosed, PeerLost, TransferTimeout
from nova.testing.carriers import Carrier, each_carrier
from nova.testing.case import case
from nova.testing.cases.transfer import PIECE, PIECES
from nova.testing.checks import BLOCKED_S, PROMPT_S, Background, check, raises, soon
from nova.testing.rank import Rank
from nova.transport.api import Caps

LOST_S = 3.0
"""s; the end of a process is seen by then."""

LONG_S = 30.0
"""s; a deadline that must not be what ends a call."""

ONE = frozenset({1})


def flood(carrier: Carrier, dst: int, deadline_s: float) -> None:
    """Send more than every buffer holds."""
    end = soon(deadline_s)
    for _ in range(2 * PIECES):
        carrier.put(PIECE, dst, end)


@each_carrier(needs=Caps.DEADLINE)
def F1_a_timeout_with_nothing_arrived_is_harmless(rank: Rank, carrier: Carrier) -> None:
    """A receive that nothing comes for raises TransferTimeout at its deadline, and the group is whole."""
    peer = 1 - rank.rank
    if rank.rank == 1:
        for _ in range(2):
            with raises(TransferTimeout, after_s=BLOCKED_S * 0.8):
                Background(lambda: carrier.take(5, 0, soon(BLOCKED_S))).result(BLOCKED_S + PROMPT_S)
    rank.all_gather()
    carrier.put(b"whole", peer, soon())
    check(carrier.take(5, peer, soon()) == b"whole", "other bytes came after a timeout")


@each_carrier(needs=Caps.DEADLINE)
def F2_a_deadline_that_has_passed_takes_what_is_there(rank: Rank, carrier: Carrier) -> None:
    """A receive whose deadline has passed still takes what has arrived."""
    if rank.rank == 0:
        carrier.put(b"a", 1, soon())
        carrier.put(b"b", 1, soon())
        rank.all_gather()
        return
    rank.all_gather()
    check(carrier.take(1, 0, soon()) == b"a", "other bytes came")
    check(carrier.take(1, 0, soon(0.0)) == b"b", "other bytes came")


@each_carrier(needs=Caps.DEADLINE)
def F3_a_send_that_nobody_reads_ends(rank: Rank, carrier: Carrier) -> None:
    """A send that its receiver does not read raises TransferTimeout at its deadline."""
    if rank.rank == 0:
        with raises(TransferTimeout, within_s=2 * PROMPT_S):
            flood(carrier, 1, 0.2)
    rank.all_gather()


@each_carrier(needs=Caps.ABORT)
def F4_abort_wakes_a_blocked_receive(rank: Rank, carrier: Carrier) -> None:
    """Abort returns at once, and a blocked receive raises GroupClosed."""
    if rank.rank == 0:
        _abort_wakes(rank, lambda: carrier.take(9, 1, soon(LONG_S)))
    rank.all_gather()


@each_carrier(needs=Caps.ABORT)
def F5_abort_wakes_a_blocked_send(rank: Rank, carrier: Carrier) -> None:
    """Abort returns at once, and a blocked send raises GroupClosed."""
    if rank.rank == 0:
        _abort_wakes(rank, lambda: flood(carrier, 1, LONG_S))
    rank.all_gather()


@each_carrier(ranks=3, needs=Caps.ABORT)
def F6_abort_wakes_a_sender_and_a_receiver(rank: Rank, carrier: Carrier) -> None:
    """Abort wakes calls of several threads at once."""
    if rank.rank == 0:
        _abort_wakes(rank, lambda: flood(carrier, 1, LONG_S), lambda: carrier.take(9, 2, soon(LONG_S)))
    rank.all_gather()


@each_carrier(needs=Caps.PEER_FAILURE | Caps.REFORM)  # without REFORM a group ends only with its process
def F7_a_peer_that_ended_its_group_is_lost(rank: Rank, carrier: Carrier) -> None:
    """What a peer sent before its close arrives; then it is lost: PeerLost with its rank, and GroupBroken after."""
    if rank.rank == 1:
        carrier.put(b"last", 0, soon())
        rank.group.close(soon())
        return
    check(carrier.take(4, 1, soon()) == b"last", "other bytes came")
    with raises(PeerLost, within_s=LOST_S) as lost:
        carrier.take(4, 1, soon())
    check(lost.error.rank == 1, f"rank 1 ended, and rank {lost.error.rank} is called lost")
    _stays_broken(carrier)


@each_carrier(needs=Caps.PEER_FAILURE, processes=True, dies=ONE)
def F8_a_killed_peer_is_lost_to_a_waiting_receive(rank: Rank, carrier: Carrier) -> None:
    """A receive that waits for a peer raises PeerLost with its rank when its process is killed."""
    if rank.rank == 1:
        rank.all_gather()
        rank.die()
    waiting = Background(lambda: carrier.take(4, 1, soon(LONG_S)))
    waiting.blocked()
    rank.all_gather()
    lost = waiting.raises(PeerLost, within_s=LOST_S)
    check(lost.rank == 1, f"rank 1 was killed, and rank {lost.rank} is called lost")
    _stays_broken(carrier)


@each_carrier(needs=Caps.PEER_FAILURE, processes=True, dies=ONE)
def F9_a_killed_peer_is_lost_to_a_blocked_send(rank: Rank, carrier: Carrier) -> None:
    """A send that its peer does not read raises PeerLost when the peer's process is killed."""
    if rank.rank == 1:
        rank.all_gather()
        rank.die()
    sending = Background(lambda: flood(carrier, 1, LONG_S))
    sending.blocked()
    rank.all_gather()
    sending.raises(PeerLost, within_s=LOST_S)
    _stays_broken(carrier)


@each_carrier(needs=Caps.PEER_FAILURE, processes=True, dies=ONE)
def F10_a_peer_killed_while_idle_is_lost_to_the_next_receive(rank: Rank, carrier: Carrier) -> None:
    """When nothing is under way as a peer is killed, the next receive raises PeerLost."""
    _die_idle(rank, carrier)
    Background(lambda: carrier.take(4, 1, soon(LONG_S))).raises(PeerLost, within_s=LOST_S)


@each_carrier(needs=Caps.PEER_FAILURE, processes=True, dies=ONE)
def F11_a_peer_killed_while_idle_is_lost_to_the_next_sends(rank: Rank, carrier: Carrier) -> None:
    """When nothing is under way as a peer is killed, a next send raises PeerLost; the first ones may go unheard."""
    _die_idle(rank, carrier)
    Background(lambda: _keep_sending(carrier)).raises(PeerLost, within_s=LOST_S)


@case(needs=Caps.BYTES | Caps.DEADLINE)
def F12_a_send_that_is_cut_off_breaks_the_group(rank: Rank) -> None:
    """A send whose deadline passes when some of it has moved raises TransferTimeout and breaks the group."""
    if rank.rank == 0:
        with raises(TransferTimeout, within_s=2 * PROMPT_S):
            rank.parts.send([PIECE] * (2 * PIECES), 1, soon(0.2))
        for _ in range(2):
            with raises(GroupBroken, within_s=PROMPT_S):
                rank.parts.send([b"x"], 1, soon())
    rank.all_gather()


def _abort_wakes(rank: Rank, *calls: Callable[[], object]) -> None:
    blocked = [Background(call) for call in calls]
    for call in blocked:
        call.blocked()
    Background(rank.group.abort).result(PROMPT_S)
    for call in blocked:
        call.raises(GroupClosed)


def _stays_broken(carrier: Carrier) -> None:
    """Broken stays broken, for every call and at once."""
    for _ in range(2):
        with raises(GroupBroken, within_s=PROMPT_S):
            carrier.take(4, 1, soon())
        with raises(GroupBroken, within_s=PROMPT_S):
            carrier.put(b"x", 1, soon())


def _die_idle(rank: Rank, carrier: Carrier) -> None:
    """One transfer, and then rank 1 ends."""
    if rank.rank == 1:
        carrier.take(4, 0, soon())
        rank.die()
    carrier.put(b"once", 1, soon())


def _keep_sending(carrier: Carrier) -> None:
    end = soon(LONG_S)
    while not end.expired:
        carrier.put(b"more", 1, end)
