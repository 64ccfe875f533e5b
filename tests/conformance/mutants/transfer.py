"""Defects of parts on their way."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from nova.clock import Deadline
from nova.errors import LengthMismatch
from nova.transport.api import Buffer, Seat, WritableBuffer
from nova.transport.buffers import flat
from nova.transport.memory import ARRAYS, PARTS, Hub, MemoryGroup
from tests.conformance.mutants.base import fails


@fails("T1_a_part_arrives_exactly")
class Truncates(MemoryGroup):
    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        odd = [len(part) % 2 and len(part) > 60_000 for part in parts]
        super().send([part[:-1] if cut else part for part, cut in zip(parts, odd, strict=True)], dst, deadline)


@fails("T2_parts_of_one_send_arrive_one_by_one")
class DropsEmptyPartsBetweenOthers(MemoryGroup):
    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        super().send([part for part in parts if len(part)] if len(parts) > 1 else parts, dst, deadline)


@fails("T3_order_is_kept")
class Reorders(MemoryGroup):
    _calls = 0
    _late: Sequence[Buffer] = ()

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        self._calls += 1
        if self._calls == 30:
            self._late = parts
            return
        super().send(parts, dst, deadline)
        super().send(self._late, dst, deadline)
        self._late = ()


@fails("T4_a_send_may_have_many_parts")
class DuplicatesAFrame(MemoryGroup):
    """Where a list of buffers is cut for the system call, the last one is sent twice."""

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        super().send([*parts[:1024], *parts[1023:]] if len(parts) > 1024 else parts, dst, deadline)


@fails("T5_every_kind_of_buffer_is_taken")
class TakesBytesOnly(MemoryGroup):
    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        if any(isinstance(part, memoryview) and part.format == "f" for part in parts):
            raise ValueError("a part must be bytes")
        super().send(parts, dst, deadline)


@fails("T6_a_part_lands_in_place")
class FillsACopy(MemoryGroup):
    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        foreign = isinstance(out, memoryview) and out.format == "f"
        super().recv_into(bytearray(out.nbytes) if foreign else out, src, deadline)  # type: ignore[union-attr]


@fails("T7_a_strided_buffer_is_refused")
class JoinsStridesSilently(MemoryGroup):
    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        super().send([bytes(part) for part in parts], dst, deadline)


@fails("T8_a_buffer_is_free_after_the_send")
class KeepsTheBuffer(MemoryGroup):
    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        super().send(parts, dst, deadline)
        if len(parts) == 1 and isinstance(parts[0], bytearray):
            with self._changed:
                self._out[PARTS, dst].parts[-1] = flat(parts[0])  # type: ignore[assignment]


@fails("T9_both_directions_at_once")
class LiesAboutFullDuplex(MemoryGroup):
    """One lock for both directions; FULL_DUPLEX is declared all the same."""

    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, seat, capacity)
        self._one = threading.Lock()

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        with self._one:
            super().send(parts, dst, deadline)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        with self._one:
            super().recv_into(out, src, deadline)


@fails("T10_two_threads_may_call_at_once")
class SharesAStage(MemoryGroup):
    """A small send beside a receive spoils what both hold in one buffer."""

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        shared = self._life.inside and all(0 < len(part) < 4096 for part in parts)
        super().send([bytes(len(part)) for part in parts] if shared else parts, dst, deadline)


@fails("T11_neighbours_reach_each_other")
class SwapsNeighbours(MemoryGroup):
    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        super().recv_into(out, 3 - self.rank - src if self.size == 3 and len(out) == 2 else src, deadline)


@fails("T12_any_rank_reaches_any_other")
class LiesAboutAnyPair(MemoryGroup):
    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        if (dst - self.rank) % self.size not in (1, self.size - 1):
            raise ValueError("send is supported to direct neighbours only")
        super().send(parts, dst, deadline)


@fails("T13_a_sender_waits_for_a_slow_receiver")
class LosesWhatFollowsAWait(MemoryGroup):
    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        waits = sum(map(len, parts)) > 8 * self._capacity and len(parts[-1]) < 10
        super().send(parts[:-1] if waits else parts, dst, deadline)


class _Lenient(MemoryGroup):
    """Delivers what fits for one pair of lengths, and fills up with zeros."""

    pair = (0, 0)

    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        sent, awaited = self.pair
        if kind == ARRAYS or len(view) != awaited:
            super()._receive(kind, view, src, deadline)
            return
        with self._life:
            part = self._take(self._in[kind, src], src, deadline)
            if len(part) != sent and len(part) != awaited:
                raise self._life.broke(LengthMismatch(f"rank {src} sent {len(part)} bytes"))
            view[:] = part[:awaited].ljust(awaited, b"\0")


@fails("N1_a_longer_part_is_a_mismatch")
class CutsALongerPart(_Lenient):
    pair = (10, 8)


@fails("N2_a_shorter_part_is_a_mismatch")
class FillsAShorterPart(_Lenient):
    pair = (8, 10)


@fails("N3_a_part_where_an_empty_one_was_awaited_is_a_mismatch")
class SwallowsAPart(_Lenient):
    pair = (1, 0)


@fails("N4_an_empty_part_is_a_mismatch")
class TakesEmptyForAByte(_Lenient):
    pair = (0, 1)


@fails("N5_a_large_longer_part_is_a_mismatch")
class CutsALargePart(_Lenient):
    pair = (3 << 20, 1 << 20)


@fails("N6_a_large_shorter_part_is_a_mismatch")
class FillsALargePart(_Lenient):
    pair = (1 << 20, 3 << 20)


@fails("N7_a_small_part_where_a_large_one_was_awaited_is_a_mismatch")
class DeliversBeforeItLooks(MemoryGroup):
    """The mismatch is seen, but the destination has bytes of the wrong part by then."""

    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        if kind == PARTS and len(view) == 3 << 20:
            with self._life:
                part = self._take(self._in[kind, src], src, deadline)
                if len(part) < 1000:
                    view[: len(part)] = part
                    raise self._life.broke(LengthMismatch(f"rank {src} sent {len(part)} bytes"))
                if len(part) != len(view):
                    raise self._life.broke(LengthMismatch(f"rank {src} sent {len(part)} bytes"))
                view[:] = part
        else:
            super()._receive(kind, view, src, deadline)
