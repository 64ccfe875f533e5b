"""Memory that nothing uses goes back to the system."""

from __future__ import annotations

import mlx.core as mx
import psutil

from nova.engine.memory import free_bytes, give_back


def test_what_is_free_is_above_nothing_and_below_the_machine_s_memory() -> None:
    assert 0 < free_bytes() <= psutil.virtual_memory().total


def test_mlx_holds_no_freed_buffers_afterwards() -> None:
    array = mx.ones((1 << 20,))
    mx.eval(array)
    del array
    give_back()
    assert mx.get_cache_memory() == 0
