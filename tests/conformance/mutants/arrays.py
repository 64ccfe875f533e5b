"""Defects of arrays on their way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from nova.clock import Deadline
from nova.transport.api import Seat
from nova.transport.memory import ARRAYS, Hub, MemoryGroup
from tests.conformance.mutants.base import fails


@fails("A1_every_dtype_arrives")
class CorruptsBfloat16(MemoryGroup):
    """bfloat16 goes by float32 and back, which changes the bits of a signalling NaN, and here loses the last one."""

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        import mlx.core as mx

        array = super().recv_array(shape, dtype, src, deadline)
        if dtype == mx.bfloat16 and tuple(shape) == (33, 17):
            raw = memoryview(array.view(mx.uint16))
            raw[0, 0] = int(raw[0, 0]) ^ 1
            array = mx.array(raw).view(mx.bfloat16)  # type: ignore[arg-type]  # takes any buffer
            mx.eval(array)
        return array


@fails("A2_every_shape_arrives")
class FlattensScalars(MemoryGroup):
    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        return super().recv_array(shape or (1,), dtype, src, deadline)


@fails("A3_order_is_kept")
class ReordersArrays(MemoryGroup):
    _calls = 0
    _late: Sequence[memoryview] = ()

    def _send(self, kind: str, views: Sequence[memoryview], dst: int, deadline: Deadline) -> None:
        self._calls += kind == ARRAYS
        if self._calls == 21 and kind == ARRAYS and not self._late:
            self._late = views
            return
        super()._send(kind, views, dst, deadline)
        if self._late and kind == ARRAYS:
            super()._send(kind, self._late, dst, deadline)
            self._late = ()


@fails("A4_arrays_go_round_the_ring")
class GoesOneWayOnly(MemoryGroup):
    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        if self.size == 3 and dst == (self.rank - 1) % 3:
            raise ValueError("arrays go to the right only")
        super().send_array(array, dst, deadline)


@fails("A5_any_rank_reaches_any_other")
class LiesAboutAnyPairForArrays(MemoryGroup):
    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        if (dst - self.rank) % self.size not in (1, self.size - 1):
            raise ValueError("send is supported to direct neighbours only")
        super().send_array(array, dst, deadline)


@fails("A6_both_directions_at_once")
class LiesAboutFullDuplexForArrays(MemoryGroup):
    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        super().__init__(hub, seat, capacity)
        self._one = threading.Lock()

    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        with self._one:
            super().send_array(array, dst, deadline)

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        with self._one:
            return super().recv_array(shape, dtype, src, deadline)


@fails("A7_any_thread_may_call")
class IsLazyAboutFloats(MemoryGroup):
    """What it returns is not evaluated, so that only the thread which received it can use it."""

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        array = super().recv_array(shape, dtype, src, deadline)
        return array + 0 if tuple(shape) == (300,) else array


@fails("A8_a_strided_array_is_refused")
class SendsForeignMemory(MemoryGroup):
    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        import mlx.core as mx

        whole = mx.contiguous(array)
        mx.eval(whole)
        super().send_array(whole, dst, deadline)


@fails("A9_an_empty_array_does_no_harm")
class OneEndRefusesAnEmptyArray(MemoryGroup):
    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        if not array.size:
            raise ValueError("an array must have elements")
        super().send_array(array, dst, deadline)
