"""An emulated stage takes the time that its profile says, and its caches behave as mlx_lm's do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.models.cache import BatchKVCache, KVCache

from nova.engine.emulated import TEXT, BatchPositions, EmulatedStage, Positions
from nova.plan.profiles import Profile

SWIFT = Profile("swift", (0.01,), (2,), 4, "this test", ((1, 1.0), (4, 4.0)), True)
TIMED = Profile("timed", (8.0,), (2,), 4, "this test", ((1, 1.0), (4, 4.0)), True)

ROWS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def said(stage: EmulatedStage, cache: Sequence[Any], rows: int, width: int = 1) -> list[str]:
    """The letters that a chunk of so many rows brings, one string per row."""
    hidden = stage.run(stage.embed(mx.zeros((rows, width), mx.uint32)), cache)
    return [bytes(row).decode() for row in mx.argmax(stage.head(hidden), -1).tolist()]  # type: ignore[arg-type, union-attr]


def test_a_hidden_state_has_the_profile_s_width_and_passes_as_it_is() -> None:
    stage = EmulatedStage(SWIFT, 0, 2)
    hidden = stage.embed(mx.zeros((3, 2), mx.uint32))
    assert (hidden.shape, hidden.dtype) == ((3, 2, 4), mx.bfloat16)
    assert stage.run(hidden, stage.make_cache()) is hidden
    assert stage.norm(hidden) is hidden


def test_a_row_s_letter_is_that_of_its_own_position_alone_and_among_others() -> None:
    stage = EmulatedStage(SWIFT, 0, 2)
    alone = {}
    for length in (1, 3, 47):
        cache = [Positions(length)]
        alone[length] = "".join(said(stage, cache, 1)[0] for _ in range(50))
        assert alone[length] == (TEXT.decode() * 4)[length : length + 50]
    batch = [Positions.merge([Positions(length) for length in alone])]
    together = ["".join(letters) for letters in zip(*(said(stage, batch, 3) for _ in range(50)), strict=True)]
    assert together == list(alone.values())


def test_every_position_of_a_wide_chunk_has_its_letter_and_the_head_may_see_only_the_last() -> None:
    stage = EmulatedStage(SWIFT, 0, 2)
    assert said(stage, [BatchPositions([0, 5])], 2, width=4) == [TEXT.decode()[:4], TEXT.decode()[5:9]]
    last = stage.head(mx.zeros((2, 1, 4), mx.bfloat16))
    assert mx.argmax(last, -1).tolist() == [[TEXT[3]], [TEXT[8]]]


def test_waits_are_as_long_as_they_should_be_whether_short_or_long() -> None:
    stage = EmulatedStage(TIMED, 0, 1)
    took: dict[int, list[float]] = {1: [], 3: [], 12: []}
    for _ in range(12):
        for width, times in took.items():
            begun = time.perf_counter()
            stage.run(mx.zeros((1, width, 4)), [Positions()])
            times.append(time.perf_counter() - begun)
    for width, times in took.items():
        # The median: whatever else runs on this machine may be in the way of some.
        assert statistics.median(times[2:]) == pytest.approx(0.004 * width, rel=0.1)


def test_a_stage_takes_the_time_of_its_layers() -> None:
    begun = time.perf_counter()
    EmulatedStage(TIMED, 1, 2).run(mx.zeros((2, 4, 4)), [BatchPositions([0, 0])])
    assert time.perf_counter() - begun >= 0.032 * 0.5


# --- the caches, beside mlx_lm's own --------------------------------------------------------------------------------


def filled(length: int) -> KVCache:
    cache = KVCache()
    cache.update_and_fetch(*grown(1, length))
    return cache


def grown(rows: int, width: int) -> tuple[mx.array, mx.array]:
    return mx.zeros((rows, 1, width, 1)), mx.zeros((rows, 1, width, 1))


def lengths(batch: Any) -> list[int]:
    return [int(end) for end in batch.offset]


@given(ROWS, ROWS, st.integers(1, 3), st.data())
def test_a_batch_goes_the_way_of_mlx_lm_s(first: list[int], second: list[int], width: int, data: st.DataObject) -> None:
    theirs, ours = KVCache.merge([filled(each) for each in first]), Positions.merge([Positions(each) for each in first])
    assert isinstance(theirs, BatchKVCache)
    theirs.extend(KVCache.merge([filled(each) for each in second]))
    ours.extend(Positions.merge([Positions(each) for each in second]))
    assert lengths(ours) == lengths(theirs) == first + second
    theirs.update_and_fetch(*grown(len(first + second), width))
    assert ours.advance(width) == lengths(theirs)
    kept = data.draw(st.lists(st.integers(0, len(first + second) - 1), min_size=1, unique=True))
    theirs.filter(mx.array(kept))
    ours.filter(mx.array(kept))
    assert lengths(ours) == lengths(theirs)
    assert (ours.size(), ours.empty(), ours.is_trimmable()) == (theirs.size(), theirs.empty(), theirs.is_trimmable())
    assert ours.trim(width) == theirs.trim(width)
    assert lengths(ours) == lengths(theirs)
    index = data.draw(st.integers(0, len(kept) - 1))
    one, other = ours.extract(index), theirs.extract(index)
    assert (one.offset, one.size(), one.empty(), one.is_trimmable()) == (other.offset, other.size(), False, True)


@given(st.integers(1, 20), st.integers(0, 30))
def test_one_row_is_trimmed_as_mlx_lm_s(length: int, cut: int) -> None:
    ours, theirs = Positions(length), filled(length)
    assert ours.trim(cut) == theirs.trim(cut)
    assert ours.size() == theirs.size()


def test_states_can_be_evaluated_and_set() -> None:
    for cache, fresh in ((Positions(3), Positions()), (BatchPositions([1, 2]), BatchPositions([]))):
        mx.eval(cache.state)
        fresh.state = cache.state
        assert fresh.offset == cache.offset
        assert cache.nbytes == 0
