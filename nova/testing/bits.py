"""Bytes and arrays that every rank can work out for itself. MLX is imported only where an array is made."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any


@functools.lru_cache(maxsize=128)
def random_bytes(size: int, seed: str) -> bytes:
    """Kept, because ranks that are threads want the same ones."""
    return random.Random(f"{size} {seed}").randbytes(size)


def bits(shape: Sequence[int], dtype: str, seed: int = 0) -> Any:
    """An evaluated array of random bits, so of NaN and infinities too; every rank can work it out for itself."""
    import mlx.core as mx

    array = mx.zeros(shape, getattr(mx, dtype))
    mx.eval(array)
    whole = random_bytes(array.nbytes, f"{dtype} {seed}")
    if dtype == "bool_":
        whole = bytes(each & 1 for each in whole)
    raw = mx.array(memoryview(whole))  # type: ignore[arg-type]  # takes any buffer
    array = raw.view(getattr(mx, dtype)).reshape(shape)
    mx.eval(array)
    return array


def same(a: Any, b: Any) -> bool:
    """Equal in dtype, shape and every bit."""
    return a.dtype == b.dtype and tuple(a.shape) == tuple(b.shape) and bytes(memoryview(a)) == bytes(memoryview(b))
