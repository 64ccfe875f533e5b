"""I: the right peers, and nobody else."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from nova.errors import FormingFailed, TransportError
from nova.testing.carriers import carrier_of
from nova.testing.case import case
from nova.testing.cases.transfer import take
from nova.testing.checks import PROMPT_S, Background, check, soon
from nova.testing.rank import LATE_S, Rank
from nova.testing.strangers import listening, strangers
from nova.transport.api import Caps, Endpoint, Group, Seat
from nova.transport.ticket import proof

BOTH = frozenset({0, 1})
OPEN_PORTS = Caps.BYTES | Caps.AUTHENTICATED | Caps.INTER_HOST
LOAD = 20_000
"""Bytes of a part that every rank sends to every other while strangers knock."""


@case(blocks=BOTH, limit_s=15.0)
def I1_a_dialler_with_another_ticket_is_refused(rank: Rank) -> None:
    """A peer that holds another ticket is not let in, whichever of the two it is."""
    _apart(rank, replace(rank.seat, ticket=b"x" * 32) if rank.rank == 1 else rank.seat)


@case(blocks=BOTH, limit_s=15.0)
def I2_a_listener_with_another_ticket_is_refused(rank: Rank) -> None:
    """A peer that holds another ticket is not let in, whichever of the two it is."""
    _apart(rank, replace(rank.seat, ticket=b"x" * 32) if rank.rank == 0 else rank.seat)


@case(blocks=BOTH, limit_s=15.0)
def I3_a_dialler_of_another_generation_is_refused(rank: Rank) -> None:
    """A peer of an older or later generation of the group is not let in."""
    _apart(rank, replace(rank.seat, generation=7) if rank.rank == 1 else rank.seat)


@case(blocks=BOTH, limit_s=15.0)
def I3_a_listener_of_another_generation_is_refused(rank: Rank) -> None:
    """A peer of an older or later generation of the group is not let in."""
    _apart(rank, replace(rank.seat, generation=7) if rank.rank == 0 else rank.seat)


@case(blocks=BOTH, limit_s=15.0)
def I4_a_dialler_of_another_group_is_refused(rank: Rank) -> None:
    """A peer of another group is not let in."""
    _apart(rank, replace(rank.seat, group="another") if rank.rank == 1 else rank.seat)


@case(blocks=BOTH, limit_s=15.0)
def I4_a_listener_of_another_group_is_refused(rank: Rank) -> None:
    """A peer of another group is not let in."""
    _apart(rank, replace(rank.seat, group="another") if rank.rank == 0 else rank.seat)


@case(ranks=3, needs=Caps.AUTHENTICATED, blocks=frozenset({0, 1, 2}), limit_s=15.0)
def I5_a_rank_in_another_s_place_is_refused(rank: Rank) -> None:
    """A peer that answers under another rank than its own is not taken for that rank."""
    endpoint = rank.open()
    cards = rank.all_gather(endpoint.card())
    if rank.rank == 2:
        cards[:2] = reversed(cards[:2])
    _refused(rank, rank.seat, endpoint, cards)


@case(ranks=3, needs=OPEN_PORTS, joins=True)
def I6_strangers_disturb_no_join(rank: Rank) -> None:
    """Strangers at the ports, silent or talkative, neither hinder a join nor get in."""
    endpoint = rank.open()
    cards = rank.all_gather(endpoint.card())
    where = listening(rank)
    with strangers(where) if rank.rank == 0 else contextlib.nullcontext():
        rank.use(rank.join(endpoint, cards, 5.0))
        _pass_round(rank, among=(0, 1, 2))
        rank.all_gather()


@case(ranks=3, needs=OPEN_PORTS, joins=True)
def I7_strangers_disturb_no_group(rank: Rank) -> None:
    """Strangers at the ports of a group that is formed reach nobody and delay nothing."""
    endpoint = rank.open()
    cards = rank.all_gather(endpoint.card())
    where = listening(rank)
    rank.use(rank.join(endpoint, cards))
    waiting = Background(lambda: take(rank, 4, 2)) if rank.rank == 1 else None
    with strangers(where) if rank.rank == 0 else contextlib.nullcontext():
        for _ in range(10):
            _pass_round(rank, among=(0, 2))
        rank.all_gather()
    if rank.rank == 2:
        rank.parts.send([b"here"], 1, soon())
    if waiting is not None:
        check(waiting.result() == b"here", "other bytes came to a receive that was waiting all the time")


def _apart(rank: Rank, seat: Seat) -> None:
    """Two ranks whose seats do not belong together."""
    endpoint = rank.open(seat)
    _refused(rank, seat, endpoint, rank.all_gather(endpoint.card()))


def _refused(rank: Rank, seat: Seat, endpoint: Endpoint, cards: list[bytes]) -> None:
    """No group comes up; or, without AUTHENTICATED, one in which a stamp shows who is wrong, as VERIFY does."""
    try:
        group = rank.join(endpoint, cards, LATE_S)
    except FormingFailed:
        return
    check(Caps.AUTHENTICATED not in rank.caps, "the group came up, although not all ranks belong to it")
    rank.together = False  # the other end may have failed
    try:
        shown = Background(lambda: _exchange_stamps(rank, seat, group)).result(LATE_S + PROMPT_S)
    except TransportError:
        return
    check(shown != _stamp(seat, rank.left), "the stamp of a rank that does not belong here is right")


def _stamp(seat: Seat, source: int) -> bytes:
    return proof(seat, b"stamp", bytes([source]))


def _exchange_stamps(rank: Rank, seat: Seat, group: Group) -> bytes:
    ours = _stamp(seat, rank.rank)
    carrier = carrier_of(group)
    sending = Background(lambda: carrier.put(ours, rank.right, soon(LATE_S)))
    shown = carrier.take(len(ours), rank.left, soon(LATE_S))
    sending.result()
    return shown


def _pass_round(rank: Rank, among: tuple[int, ...]) -> None:
    """Every one of these ranks sends a part to all others of them."""
    others = [each for each in among if each != rank.rank] if rank.rank in among else []
    for dst in others:
        rank.parts.send([bytes([rank.rank]) * LOAD], dst, soon())
    for src in others:
        check(set(take(rank, LOAD, src)) == {src}, f"other bytes came from rank {src}")
