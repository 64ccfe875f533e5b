"""L: from open to the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nova.errors import FormingFailed, GroupClosed, PeerLost
from nova.testing.carriers import Carrier, carrier_of, each_carrier
from nova.testing.case import case
from nova.testing.checks import BLOCKED_S, PROMPT_S, Background, check, raises, soon
from nova.testing.rank import LATE_S, Rank
from nova.transport.api import MAX_CARD_BYTES, Caps, Group


@case(ranks=1)
def L1_a_card_is_small(rank: Rank) -> None:
    """A card is bytes, at most MAX_CARD_BYTES, and an endpoint may be closed more than once."""
    endpoint = rank.open(replace(rank.seat, size=4))
    card = endpoint.card()
    check(isinstance(card, bytes), f"the card is {type(card).__name__}")
    check(len(card) <= MAX_CARD_BYTES, f"the card has {len(card)} bytes, the limit is {MAX_CARD_BYTES}")
    endpoint.close()
    endpoint.close()


@case(ranks=1)
def L2_opening_and_closing_leaves_nothing(rank: Rank) -> None:
    """An endpoint that never joined leaves nothing behind when it is closed."""

    def visit() -> None:
        endpoint = rank.transport.open(replace(rank.seat, size=4))
        endpoint.card()
        endpoint.close()

    visit()
    with rank.nothing_left():
        for _ in range(3):
            visit()


@case(ranks=3)
def L3_a_group_knows_its_place(rank: Rank) -> None:
    """A group has the rank and size of its seat."""
    group = rank.group
    check((group.rank, group.size) == (rank.rank, 3), f"rank {rank.rank} of 3 is called {group.rank} of {group.size}")


@case()
def L4_a_group_outlives_its_endpoint(rank: Rank) -> None:
    """Closing an endpoint after the join, even twice, leaves the group as it is."""
    endpoint = rank.open()
    group = rank.join(endpoint, rank.all_gather(endpoint.card()))
    endpoint.close()
    endpoint.close()
    rank.all_gather()
    if rank.rank == 0:
        carrier_of(group).put(b"alive", 1, soon())
    else:
        check(carrier_of(group).take(5, 0, soon()) == b"alive", "other bytes came")


@case(ranks=3, blocks=frozenset({0, 2}), limit_s=10.0)
def L5_a_join_without_its_peer_ends(rank: Rank) -> None:
    """A join whose peer is missing raises FormingFailed by its deadline and names the rank; or is ended by a kill."""
    endpoint = rank.open()
    cards = rank.all_gather(endpoint.card())
    if rank.rank == 1:
        endpoint.close()
        rank.all_gather()
        rank.together = False
        return
    rank.all_gather()
    with raises(FormingFailed, saying="rank 1", within_s=LATE_S + PROMPT_S):
        rank.join(endpoint, cards, LATE_S)


@case(blocks=frozenset({0, 1}), limit_s=10.0)
def L6_a_malformed_card_is_named(rank: Rank) -> None:
    """A malformed card raises FormingFailed that names the rank it came from."""
    for index, card in enumerate((b"", b"\xff\x00", b"{}", b'{"host": 5}')):
        endpoint = rank.open(replace(rank.seat, generation=index + 11))
        cards = [card, endpoint.card()]
        if rank.rank == 1:
            with raises(FormingFailed, saying="rank 0"):
                rank.join(endpoint, cards, LATE_S)
        endpoint.close()


@case(needs=Caps.REFORM)
def L7_a_second_group_forms_in_one_process(rank: Rank) -> None:
    """With REFORM, a process can form one group after another."""
    for generation in (1, 2, 3):
        rank.form(generation).abort()
        rank.all_gather()


@case(ranks=3, needs=Caps.REFORM)
def L8_a_group_that_ended_leaves_nothing(rank: Rank) -> None:
    """After close or abort nothing of a group is left behind."""

    def live(generation: int, end: Callable[[Group], None]) -> None:
        group = rank.form(generation)
        rank.all_gather()
        end(group)
        rank.all_gather()

    def abort_a_receive(group: Group) -> None:
        receiving = Background(lambda: carrier_of(group).take(1, rank.left, soon()))
        if Caps.ABORT in rank.caps:
            receiving.blocked()
            rank.all_gather()
            group.abort()
            receiving.raises(GroupClosed, PeerLost)  # whoever of the ranks was first

    live(1, lambda group: group.close(soon()))
    with rank.nothing_left():
        live(2, lambda group: group.close(soon()))
        live(3, lambda group: group.abort())
        live(4, abort_a_receive)


@case(needs=Caps.REFORM | Caps.DEADLINE)
def L9_a_join_that_failed_leaves_nothing(rank: Rank) -> None:
    """After FormingFailed nothing of the join is left behind."""

    def fail(generation: int) -> None:
        endpoint = rank.open(replace(rank.seat, generation=generation))
        cards = rank.all_gather(endpoint.card())
        if rank.rank == 0:
            with raises(FormingFailed):
                rank.join(endpoint, cards, LATE_S / 5)
        endpoint.close()

    fail(1)
    with rank.nothing_left():
        fail(2)


@each_carrier()
def L10_an_ended_group_refuses_calls(rank: Rank, carrier: Carrier) -> None:
    """Close and abort may come twice and after each other; calls then raise GroupClosed."""
    rank.all_gather()
    if rank.rank == 0:
        rank.group.close(soon())
        rank.group.close(soon())
        rank.group.abort()
    else:
        rank.group.abort()
        rank.group.abort()
        rank.group.close(soon())
    with raises(GroupClosed, within_s=PROMPT_S):
        carrier.put(b"x", 1 - rank.rank, soon())
    with raises(GroupClosed, within_s=PROMPT_S):
        carrier.take(1, 1 - rank.rank, soon())


@case(needs=Caps.BYTES | Caps.DEADLINE)
def L11_close_keeps_its_deadline(rank: Rank) -> None:
    """A close that cannot flush, because the peer reads nothing, ends by its deadline."""
    if rank.rank == 0:
        rank.parts.send([bytes(100_000)], 1, soon())
        Background(lambda: rank.group.close(soon(BLOCKED_S))).result(PROMPT_S)
    rank.all_gather()


@case(needs=Caps.BYTES)
def L12_what_rank_0_sent_before_a_close_arrives(rank: Rank) -> None:
    """A close flushes: what was sent before it arrives, of any size."""
    _send_and_close(rank, sender=0)


@case(needs=Caps.BYTES)
def L12_what_rank_1_sent_before_a_close_arrives(rank: Rank) -> None:
    """A close flushes: what was sent before it arrives, of any size."""
    _send_and_close(rank, sender=1)


def _send_and_close(rank: Rank, sender: int) -> None:
    sizes = (4, 1 << 20, 5 << 20)
    if rank.rank == sender:
        rank.parts.send([bytes([index]) * size for index, size in enumerate(sizes)], 1 - sender, soon())
        rank.group.close(soon())
        return
    for index, size in enumerate(sizes):
        rank.parts.recv_into(out := bytearray(size), sender, soon())
        check(out == bytes([index]) * size, f"part {index} of {size} bytes came as others")
