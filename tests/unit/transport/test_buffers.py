from __future__ import annotations

import ctypes
from typing import Any

import pytest

from nova.transport.buffers import flat, writable


class Odd(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int16), ("b", ctypes.c_int8))


@pytest.mark.parametrize(
    "buffer",
    [
        bytearray(6),
        memoryview(bytearray(8)).cast("f"),
        memoryview(bytearray(8)).cast("B", (2, 4)),
        memoryview((Odd * 3)()),
    ],
)
def test_a_view_shares_the_memory(buffer: bytearray | memoryview) -> None:
    view = writable(buffer)
    assert (view.format, view.ndim, len(view)) == ("B", 1, memoryview(buffer).nbytes)
    view[1] = 7
    assert memoryview(buffer).tobytes()[1] == 7


def test_an_empty_buffer_of_any_shape_is_empty() -> None:
    kinds: tuple[Any, ...] = (b"", bytearray(), memoryview(bytearray(0)).cast("f"), memoryview((Odd * 0)()))
    for empty in kinds:
        assert len(flat(empty)) == 0


def test_what_cannot_be_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        flat(memoryview(bytearray(8))[::-1])
    with pytest.raises(ValueError, match="writable"):
        writable(memoryview(b"constant"))
