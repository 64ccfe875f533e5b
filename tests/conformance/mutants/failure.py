"""Defects that show when something goes wrong, or is not what it was declared to be."""

from __future__ import annotations

from collections.abc import Sequence

from nova.clock import Deadline
from nova.errors import GroupBroken, GroupClosed, PeerLost, TransferTimeout
from nova.transport.api import Buffer, Caps
from nova.transport.memory import ARRAYS, CAPS, PARTS, MemoryGroup
from tests.conformance.mutants.base import STUCK_S, fails, released


@fails("F1_a_timeout_with_nothing_arrived_is_harmless_of_parts")
class ReceiveIgnoresDeadlines(MemoryGroup):
    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        super()._receive(kind, view, src, Deadline.after(STUCK_S) if kind == PARTS else deadline)


@fails("F1_a_timeout_with_nothing_arrived_is_harmless_of_arrays")
class ATimeoutBreaksArrays(MemoryGroup):
    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        try:
            super()._receive(kind, view, src, deadline)
        except TransferTimeout as late:
            raise (self._life.broke(late) if kind == ARRAYS else late) from None


@fails("F2_a_deadline_that_has_passed_takes_what_is_there_of_parts")
class LooksAtTheClockFirst(MemoryGroup):
    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        if deadline.expired and kind == PARTS:
            raise TransferTimeout("the deadline has passed")
        super()._receive(kind, view, src, deadline)


@fails("F2_a_deadline_that_has_passed_takes_what_is_there_of_arrays")
class LooksAtTheClockFirstForArrays(MemoryGroup):
    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        if deadline.expired and kind == ARRAYS:
            raise TransferTimeout("the deadline has passed")
        super()._receive(kind, view, src, deadline)


class _LateSender(MemoryGroup):
    kind = PARTS

    def _send(self, kind: str, views: Sequence[memoryview], dst: int, deadline: Deadline) -> None:
        super()._send(kind, views, dst, Deadline.after(STUCK_S) if kind == self.kind else deadline)


@fails("F3_a_send_that_nobody_reads_ends_of_parts", "F12_a_send_that_is_cut_off_breaks_the_group")
class SendIgnoresDeadlines(_LateSender):
    kind = PARTS


@fails("F3_a_send_that_nobody_reads_ends_of_arrays")
class SendOfArraysIgnoresDeadlines(_LateSender):
    kind = ARRAYS


class _Deaf(MemoryGroup):
    """A receive of this kind, in a group of this size, does not wake."""

    kind, deaf_size = PARTS, 2

    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        if self._life.over or (kind, self.size) != (self.kind, self.deaf_size):
            super()._receive(kind, view, src, deadline)
            return
        try:
            super()._receive(kind, view, src, deadline)
        except GroupClosed:
            released.wait(STUCK_S)
            raise


@fails("F4_abort_wakes_a_blocked_receive_of_parts")
class AbortLeavesAReceiver(_Deaf):
    kind = PARTS


@fails("F4_abort_wakes_a_blocked_receive_of_arrays")
class AbortLeavesAReceiverOfArrays(_Deaf):
    kind = ARRAYS


class _Blocking(MemoryGroup):
    """Abort waits for sends of this kind."""

    kind, slow_size = PARTS, 2

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._sending = 0

    def _send(self, kind: str, views: Sequence[memoryview], dst: int, deadline: Deadline) -> None:
        self._sending += kind == self.kind
        try:
            super()._send(kind, views, dst, deadline)
        finally:
            self._sending -= kind == self.kind

    def abort(self) -> None:
        if self._sending and self.size == self.slow_size:
            released.wait(STUCK_S)
        super().abort()


@fails("F5_abort_wakes_a_blocked_send_of_parts")
class AbortWaitsForASender(_Blocking):
    kind = PARTS


@fails("F5_abort_wakes_a_blocked_send_of_arrays")
class AbortWaitsForASenderOfArrays(_Blocking):
    kind = ARRAYS


@fails("F6_abort_wakes_a_sender_and_a_receiver_of_parts", "L8_a_group_that_ended_leaves_nothing")
class AbortWakesOneOfTwo(_Deaf):
    kind, deaf_size = PARTS, 3


@fails("F6_abort_wakes_a_sender_and_a_receiver_of_arrays")
class AbortWakesOneOfTwoForArrays(_Deaf):
    kind, deaf_size = ARRAYS, 3


@fails("F7_a_peer_that_ended_its_group_is_lost_of_parts")
class NamesTheWrongRank(MemoryGroup):
    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        try:
            super()._receive(kind, view, src, deadline)
        except PeerLost as lost:
            raise (PeerLost(self.rank, str(lost)) if kind == PARTS else lost) from None


@fails("F7_a_peer_that_ended_its_group_is_lost_of_arrays")
class CallsALostPeerBroken(MemoryGroup):
    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        try:
            super()._receive(kind, view, src, deadline)
        except PeerLost as lost:
            raise (GroupBroken(str(lost)) if kind == ARRAYS else lost) from None


@fails("L10_an_ended_group_refuses_calls_of_arrays")
class SendsArraysAfterItsEnd(MemoryGroup):
    def _send(self, kind: str, views: Sequence[memoryview], dst: int, deadline: Deadline) -> None:
        over = self._life.over
        try:
            super()._send(kind, views, dst, deadline)
        except GroupClosed:
            if kind == PARTS or not over:
                raise


@fails("H1_a_group_is_what_it_declares")
class DoesMoreThanItDeclares(MemoryGroup):
    caps = CAPS & ~Caps.ARRAYS


@fails(
    "H1_a_group_is_what_it_declares",
    "C1_the_native_group_has_the_same_place",
    "C2_every_collective_is_right_over_two_ranks",
    "C3_every_collective_is_right_over_three_ranks",
)
class LiesAboutCollectives(MemoryGroup):
    caps = CAPS | Caps.COLLECTIVES


@fails("H3_a_rank_out_of_reach_is_refused_of_parts", "H3_a_rank_out_of_reach_is_refused_of_arrays")
class ReachesAcross(MemoryGroup):
    caps = CAPS & ~Caps.ANY_PAIR


@fails("H4_a_second_group_is_refused")
class FormsTwiceUndeclared(MemoryGroup):
    caps = CAPS & ~Caps.REFORM


@fails("T4_a_send_may_have_many_parts")
class TakesAThousandParts(MemoryGroup):
    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        super().send(parts[:1024], dst, deadline)


@fails("F12_a_send_that_is_cut_off_breaks_the_group")
class ForgetsThatItWasCutOff(MemoryGroup):
    def _send(self, kind: str, views: Sequence[memoryview], dst: int, deadline: Deadline) -> None:
        for view in views:
            super()._send(kind, [view], dst, deadline)
