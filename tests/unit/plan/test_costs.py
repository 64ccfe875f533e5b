"""Curves through what was measured, and the decisions that follow from them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.plan.costs import (
    CERTAIN,
    LEAST_PREFILL,
    SMALLEST_PIECE,
    Costs,
    decode_rate,
    micro_batches,
    prefill_chunk,
    throttled,
)
from nova.plan.curve import FORGOTTEN_AFTER


def costs(stages: int = 2, decode: dict[int, float] | None = None, prefill: dict[int, float] | None = None) -> Costs:
    """Points that are the same on every stage, seen often enough to be believed."""
    made = Costs(stages)
    for kind, points in ((False, decode), (True, prefill)):
        for positions, seconds in (points or {}).items():
            saw(made, positions, [seconds] * stages, kind)
    return made


def saw(made: Costs, positions: int, seconds: list[float], prefill: bool = False) -> None:
    for _ in range(CERTAIN):
        made.saw(prefill, positions, seconds)


def test_known_points_are_met_and_between_them_are_lines() -> None:
    made = costs(decode={1: 1.0, 4: 2.0, 8: 6.0})
    assert [made.decode(rows)[0] for rows in (1, 2, 4, 6, 8)] == pytest.approx([1, 4 / 3, 2, 4, 6])


def test_each_stage_has_its_own_curve() -> None:
    made = Costs(2)
    saw(made, 1, [1.0, 5.0])
    saw(made, 3, [2.0, 5.0])
    assert made.decode(2) == [1.5, 5.0]


def test_one_slow_sample_does_not_count_once_there_is_another() -> None:
    made = Costs(2)
    made.saw(False, 2, [9.0, 9.0])
    made.saw(False, 2, [1.0, 1.0])
    assert made.decode(2) == [1.0, 1.0]
    for _ in range(20):
        made.saw(False, 2, [3.0, 3.0])
    made.saw(False, 2, [50.0, 50.0])
    assert made.decode(2) == [3.0, 3.0]


def test_a_size_that_looked_bad_once_is_tried_again() -> None:
    made = costs(2, {1: 1.0, 2: 1.1})
    made.saw(False, 4, [9.0, 9.0])  # the first chunk of a size, when kernels and buffers are made for it
    assert micro_batches(made, 8, 3) == 2
    for _ in range(CERTAIN):
        made.saw(False, 4, [9.0, 9.0])
    assert micro_batches(made, 8, 3) == 3, "it is bad indeed"


def test_what_a_prefill_chunk_disturbed_stands_in_until_there_is_better() -> None:
    made = Costs(2)
    made.saw(False, 4, [9.0, 9.0], disturbed=True)
    assert made.decode(4) == [9.0, 9.0]
    made.saw(False, 4, [2.0, 2.0])
    for _ in range(9):
        made.saw(False, 4, [9.0, 9.0], disturbed=True)
    assert made.decode(4) == [2.0, 2.0]


def test_beyond_the_last_point_it_goes_on_neither_falling_nor_steeper_than_proportional() -> None:
    assert costs(decode={1: 1.0, 4: 2.5, 8: 4.5}).decode(12)[0] == pytest.approx(6.5)
    assert costs(decode={4: 3.0, 8: 2.0}).decode(16)[0] == 2.0
    assert costs(decode={4: 1.0, 8: 5.0}).decode(16)[0] == 10.0
    assert costs(decode={1: 1.0, 3: 2.0}).decode(5, share=0.5)[0] == 2.5


def test_below_the_first_point_it_costs_less_but_not_proportionally_less() -> None:
    seconds = costs(decode={8: 8.0, 16: 16.0}).decode(1)[0]
    assert 1 < seconds < 8


def test_what_is_not_known_is_taken_from_the_other_kind() -> None:
    assert costs(prefill={100: 2.0}).decode(100) == [2.0, 2.0]
    assert costs(decode={4: 2.0}).prefill(4) == [2.0, 2.0]
    assert Costs(3).decode(1) == Costs(3).prefill(1)
    assert not Costs(3).known


def test_a_size_that_was_not_seen_for_long_is_forgotten() -> None:
    made = costs(decode={4: 100.0})
    for _ in range(FORGOTTEN_AFTER - 1):
        made.saw(False, 2, [1.0, 1.0])
    assert made.decode(4)[0] == 100.0
    made.saw(False, 2, [1.0, 1.0])
    made.saw(False, 2, [1.0, 1.0])
    assert made.decode(4)[0] < 2.0


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(1e-4, 1e4)), min_size=1, max_size=40), st.integers(1, 10_000))
def test_an_estimate_is_positive_and_bounded_by_what_was_seen(seen: list[tuple[int, float]], positions: int) -> None:
    made = Costs(1)
    for size, seconds in seen:
        made.saw(False, size, [seconds])
    (estimate,) = made.decode(positions)
    times, smallest = [seconds for _, seconds in seen], min(size for size, _ in seen)
    assert 0 < estimate <= max(times) * max(1, positions / smallest) * (1 + 1e-9)
    assert estimate >= min(times) * min(1, positions / max(size for size, _ in seen)) * (1 - 1e-9)


def test_with_nothing_measured_there_is_a_group_for_each_stage() -> None:
    assert [micro_batches(Costs(3), streams, 4) for streams in (1, 2, 3, 4, 9)] == [1, 2, 3, 3, 3]


@given(st.lists(st.floats(0.001, 10), min_size=8, max_size=8), st.integers(1, 4), st.integers(1, 8), st.integers(0, 5))
def test_no_other_number_of_groups_is_much_better(
    seconds: list[float], stages: int, streams: int, present: int
) -> None:
    made = costs(stages, dict(enumerate(sorted(seconds), 1)))
    most = stages + 1
    chosen = micro_batches(made, streams, most, present)
    assert 1 <= chosen <= min(streams, most)
    best = max(decode_rate(made, streams, groups) for groups in range(1, min(streams, most) + 1))
    assert decode_rate(made, streams, chosen) * 1.0301 >= best
    if chosen != present:
        assert decode_rate(made, streams, chosen) * 1.0101 >= best


def test_the_number_of_groups_stays_unless_another_gains_enough() -> None:
    even = costs(2, {1: 1.0, 2: 1.98, 4: 3.96})
    assert micro_batches(even, 4, 3) == 2
    assert micro_batches(even, 4, 3, present=1) == 2, "one group leaves a stage idle"
    flat = costs(1, {1: 1.0, 2: 2.0, 4: 3.92})
    assert micro_batches(flat, 4, 2) == 1
    assert micro_batches(flat, 4, 2, present=2) == 1, "fewer that are as good"
    steep = costs(1, {1: 1.0, 2: 1.97, 4: 4.0})
    assert micro_batches(steep, 4, 2, present=1) == 1, "more that are not much better"


def test_a_larger_group_than_any_seen_is_tried_when_it_may_be_better() -> None:
    made = costs(3, {1: 1.0, 2: 1.6})
    assert micro_batches(made, 8, 4, present=4) == 3, "groups of three, whose cost nobody knows"
    saw(made, 3, [2.4] * 3)
    assert micro_batches(made, 8, 4, present=3) == 4


@given(
    st.integers(1, 20_000), st.integers(1, 512), st.integers(1, 4096), st.integers(1, 4),
    st.dictionaries(st.integers(1, 4096), st.floats(0.001, 100), max_size=6),
)  # fmt: skip
def test_pieces_keep_to_their_limits(tokens: int, least: int, most: int, stages: int, known: dict[int, float]) -> None:
    size = prefill_chunk(costs(stages, prefill=known), tokens, least, most)
    assert 1 <= size <= min(tokens, most)
    if tokens < least or stages == 1:
        assert size == min(tokens, most)
    elif tokens >= SMALLEST_PIECE:
        assert size >= min(most, SMALLEST_PIECE)


def test_dear_pieces_are_few_and_cheap_ones_many() -> None:
    sizes = [
        prefill_chunk(costs(2, prefill={32: fixed + 32, 2048: fixed + 2048}), 2048, 256, 2048)
        for fixed in (0, 20, 200, 1000, 100_000)
    ]
    assert sizes[-1] == 2048
    assert all(less <= more for less, more in pairwise(sizes))
    assert sizes[0] <= 64


def test_when_one_width_is_known_a_second_one_is_tried() -> None:
    first = prefill_chunk(costs(2), 2048, 256, 2048)
    assert prefill_chunk(costs(2, prefill={first: 1.0}), 2048, 256, 2048) >= 1.5 * first


@given(
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.floats(0.001, 0.2), st.integers(1, 8), st.integers(1, 4),
    st.floats(1.1, 4), st.integers(1, 2048),
)  # fmt: skip
def test_a_throttled_piece_is_the_largest_that_keeps_the_pace(
    shares: list[float], each: float, rows: int, groups: int, factor: float, most: int
) -> None:
    made = Costs(3)
    for kind in (False, True):
        for positions in (1, 2048):
            made.saw(kind, positions, [share * (1 + each * positions) for share in shares])
    size = throttled(made, rows, groups, factor, most)
    assert min(LEAST_PREFILL, most) <= size <= most
    decode = made.decode(rows)
    cycle = max(sum(decode), groups * max(decode))

    def keeps(width: int) -> bool:
        prefill = made.prefill(width)
        return max(sum(prefill) + max(decode), groups * max(decode) + max(prefill)) <= 0.9 * factor * cycle

    assert size <= LEAST_PREFILL or keeps(size)
    assert size == most or not keeps(size + 1)


def test_nothing_far_wider_than_anything_seen_is_ventured() -> None:
    assert throttled(costs(2, {1: 1.0}, {10: 0.001}), 1, 1, 2.0, 2048) == 20
