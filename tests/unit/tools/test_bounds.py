"""What the serving benches hold a run to: bounds from stage times, and what a run's timings say. Pure."""

from __future__ import annotations

import pytest
from benches.bounds import (
    Bound,
    best,
    busy,
    decode_times,
    flow_shop,
    gaps,
    lockstep,
    measured_best,
    prefill,
    rate,
)
from hypothesis import given
from hypothesis import strategies as st

from nova.wire.work import ChunkTiming

MS = 1_000_000
TIMES = st.floats(0.001, 1.0)


def linear(rows: int) -> list[float]:
    return [0.01 * rows, 0.01 * rows]


def flat(rows: int) -> list[float]:
    return [0.01, 0.01]


def chunk(
    rows: list[tuple[int, int]], at_ms: int, ms: list[int], width: int = 1, is_prefill: bool = False
) -> ChunkTiming:
    """Sent at `at_ms` over stages that take it up at once, one after the other."""
    starts = [at_ms + sum(ms[:stage]) for stage in range(len(ms))]
    hops = [(start * MS, 0, each * 1000) for start, each in zip(starts, ms, strict=True)]
    return ChunkTiming(rows, width, is_prefill, at_ms * MS, (starts[-1] + ms[-1]) * MS, hops)


def test_where_width_costs_in_proportion_micro_batches_gain_as_many_times_as_there_are_stages() -> None:
    bound = best(linear, 8)
    assert bound.rate == pytest.approx(2 * lockstep(linear, 8))
    assert (bound.saturated, bound.groups) == (True, 2)


def test_where_width_costs_nothing_one_batch_is_as_good_as_any_and_fills_no_stage() -> None:
    assert best(flat, 8) == Bound(8 / 0.02, 1, False)
    assert best(flat, 1) == Bound(1 / 0.02, 1, False)


def test_the_slowest_stage_is_the_limit() -> None:
    bound = best(lambda rows: [0.03, 0.01], 6)
    assert bound.rate == pytest.approx(6 / 0.04)
    assert not bound.saturated
    assert best(lambda rows: [0.03 * rows, 0.01 * rows], 2) == Bound(2 / 0.06, 2, True)


def test_of_equal_divisions_the_fewest_groups_count_and_unequal_groups_leave_the_slowest_stage_idle() -> None:
    assert best(lambda rows: [0.01 * rows] * 4, 8).groups == 4  # and 8 would be as good
    assert best(linear, 3, [2]) == Bound(3 / 0.04, 2, False)  # two groups, of two and of one
    assert best(linear, 2, [2]) == Bound(2 / 0.02, 2, True)


@given(st.integers(1, 16), st.floats(0.0, 1.0), st.lists(TIMES, min_size=1, max_size=4))
def test_no_division_gives_more_than_the_slowest_stage_or_less_than_lock_step(
    streams: int, slope: float, stages: list[float]
) -> None:
    def times(rows: int) -> list[float]:
        return [each * (1 + slope * (rows - 1)) for each in stages]

    bound = best(times, streams)
    assert lockstep(times, streams) <= bound.rate * (1 + 1e-9)
    assert bound.rate <= lockstep(times, streams) * len(stages) * (1 + 1e-9)


def test_only_chunks_that_were_timed_make_a_measured_bound() -> None:
    assert measured_best({4: linear(4), 8: linear(8)}, 8) == best(linear, 8, [1, 2])
    assert measured_best({8: linear(8)}, 8).rate == pytest.approx(lockstep(linear, 8))
    with pytest.raises(ValueError, match=r"no chunk of 8 streams .* only chunks of \[5\]"):
        measured_best({5: linear(5)}, 8)


def test_stage_times_are_medians_by_rows_of_what_was_seen_often_and_no_prefill() -> None:
    seen = [chunk([(1, n), (2, n)], 100 * n, [10 + n, 20]) for n in range(5)]
    rare = [chunk([(1, 9)], 900, [5, 5])]
    prompts = [chunk([(3, 0)], 950, [500, 500], width=64, is_prefill=True) for _ in range(9)]
    assert decode_times([*seen, *rare, *prompts]) == {2: [0.012, 0.020]}
    assert set(decode_times([*seen, *rare], least=1)) == {1, 2}


def test_a_stage_is_busy_while_it_computes_inside_the_window_and_on_its_own_clock() -> None:
    chunks = [chunk([(1, n)], 100 * n, [50, 25]) for n in range(10)]
    assert busy(chunks, [0, 0], 0, 1000 * MS) == pytest.approx([0.5, 0.25])
    assert busy(chunks, [0, 0], 25 * MS, 125 * MS) == pytest.approx([0.5, 0.25])
    late = [ChunkTiming([(1, 0)], 1, False, 0, 0, [(7000 * MS, 20_000, 30_000)])]
    assert busy(late, [7000 * MS], 0, 100 * MS) == pytest.approx([0.3])


@given(st.integers(1, 20), st.integers(1, 6), TIMES)
def test_equal_chunks_flow_as_the_formula_says(chunks: int, stages: int, seconds: float) -> None:
    took = flow_shop([[seconds] * stages] * chunks)
    assert took == pytest.approx((chunks + stages - 1) * seconds)


@given(st.lists(st.tuples(TIMES, TIMES, TIMES), min_size=1, max_size=12))
def test_no_flow_is_faster_than_its_busiest_stage_or_slower_than_one_after_the_other(
    work: list[tuple[float, float, float]],
) -> None:
    took = flow_shop(work)
    assert max(map(sum, zip(*work, strict=True))) <= took * (1 + 1e-9)
    assert took <= sum(map(sum, work)) * (1 + 1e-9)


def test_a_prompt_s_speed_up_is_of_its_own_pieces_only_and_ideal_when_nothing_waits() -> None:
    pieces = [
        ChunkTiming([(7, 10 * n)], 10, True, 0, (n + 2) * 10 * MS, [(0, 0, 10_000), (0, 0, 10_000)]) for n in range(4)
    ]
    others = [chunk([(8, 0)], 0, [900, 900], 10, is_prefill=True), chunk([(7, 40)], 60, [5, 5])]
    found = prefill([*others, *pieces[::-1]], 7)
    assert (found.chunks, found.stages) == (4, 2)
    assert found.compute == pytest.approx(0.080)
    assert found.wall == pytest.approx(0.050)
    assert found.speedup == pytest.approx(found.ideal) == pytest.approx(1.6)
    assert found.flow == pytest.approx(found.wall)
    with pytest.raises(ValueError, match="stream 9"):
        prefill(pieces, 9)


def test_a_pace_is_of_the_tokens_inside_the_window_of_each_stream() -> None:
    streams = [[n * 100 * MS for n in range(50)], [n * 50 * MS + 7 for n in range(100)], [40 * MS]]
    assert rate(streams, 1000 * MS, 3000 * MS) == pytest.approx(10 + 20)
    assert gaps(streams, 0, 150 * MS) == pytest.approx([0.1, 0.05, 0.05])
