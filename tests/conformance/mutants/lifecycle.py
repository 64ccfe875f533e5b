"""Defects from open to the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from nova.clock import Deadline
from nova.errors import FormingFailed, GroupBroken
from nova.transport.api import Buffer, Group, Rendezvous, Seat
from nova.transport.memory import Hub, MemoryEndpoint, MemoryGroup
from tests.conformance.mutants.base import STUCK_S, fails, leaked, released

CARD = 32
"""Bytes of memory's card."""


@fails("L1_a_card_is_small")
class CardGrows(MemoryEndpoint):
    def card(self) -> bytes:
        return super().card() + bytes(20_000 * self._seat.size)

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        return super().join([card[:CARD] for card in cards], rendezvous, deadline)


@fails("L2_opening_and_closing_leaves_nothing")
class OpenLeaksADescriptor(MemoryEndpoint):
    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, seat, capacity)
        if seat.size == 4:
            leaked.append(os.open(os.devnull, os.O_RDONLY))


@fails("L3_a_group_knows_its_place")
class MiscountsThree(MemoryGroup):
    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, seat, capacity)
        self.size = min(seat.size, 2) if seat.size == 3 else seat.size


@fails("L4_a_group_outlives_its_endpoint")
class SecondCloseEndsTheGroup(MemoryEndpoint):
    _group: Group | None = None
    _closed = 0

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        self._group = super().join(cards, rendezvous, deadline)
        return self._group

    def close(self) -> None:
        self._closed += 1
        if self._group and self._closed == 2:
            self._group.abort()


@fails("L5_a_join_without_its_peer_ends")
class WaitsForLowerRanks(MemoryEndpoint):
    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        try:
            return super().join(cards, rendezvous, deadline)
        except FormingFailed as error:
            if self._seat.rank == 2 and "did not come" in error.cause:
                released.wait(STUCK_S)
            raise


@fails("L6_a_malformed_card_is_named")
class ChokesOnACard(MemoryEndpoint):
    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        if any(len(card) < CARD for card in cards):
            raise ValueError("unpack requires a buffer of 32 bytes")
        return super().join(cards, rendezvous, deadline)


@fails("L7_a_second_group_forms_in_one_process")
class FormsTwiceAtMost(MemoryEndpoint):
    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        if (self._seat.size, self._seat.generation) == (2, 3):
            raise FormingFailed("join", "memory", self._seat.rank, "no third group here")
        return super().join(cards, rendezvous, deadline)


@fails("L8_a_group_that_ended_leaves_nothing")
class CloseLeaksAThread(MemoryGroup):
    def close(self, deadline: Deadline) -> None:
        threading.Thread(target=released.wait, daemon=True).start()
        super().close(deadline)


@fails("L9_a_join_that_failed_leaves_nothing")
class FailedJoinLeaksADescriptor(MemoryEndpoint):
    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        try:
            return super().join(cards, rendezvous, deadline)
        except FormingFailed:
            leaked.append(os.open(os.devnull, os.O_RDONLY))
            raise


@fails("L10_an_ended_group_refuses_calls_of_parts")
class CallsAClosedGroupBroken(MemoryGroup):
    _ended_gracefully = False

    def close(self, deadline: Deadline) -> None:
        self._ended_gracefully = True
        super().close(deadline)

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        if self._ended_gracefully:
            raise GroupBroken("bad file descriptor")
        super().send(parts, dst, deadline)


@fails("L11_close_keeps_its_deadline")
class CloseWaitsForThePeer(MemoryGroup):
    def close(self, deadline: Deadline) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not any(lane.parts for lane in self._out.values()), STUCK_S)
        super().close(deadline)


@fails("L12_what_rank_0_sent_before_a_close_arrives", "L12_what_rank_1_sent_before_a_close_arrives")
class CloseDropsWhatIsQueued(MemoryGroup):
    def close(self, deadline: Deadline) -> None:
        with self._changed:
            for lane in self._out.values():
                if lane.bytes > 1 << 20:
                    lane.parts.clear()
        super().close(deadline)
