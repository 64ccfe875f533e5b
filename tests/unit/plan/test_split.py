"""Every layer runs exactly once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.errors import PlanError
from nova.plan.split import check_split, even_split, ranges

fitting = st.integers(1, 64).flatmap(lambda stages: st.tuples(st.integers(stages, 500), st.just(stages)))
splits = st.lists(st.integers(1, 100), min_size=1, max_size=32)


@given(fitting)
def test_an_even_split_covers_every_layer_once_in_order(sizes: tuple[int, int]) -> None:
    layers, stages = sizes
    split = even_split(layers, stages)
    check_split(split, layers, stages)
    assert [layer for start, stop in ranges(split) for layer in range(start, stop)] == list(range(layers))


@given(fitting)
def test_an_even_split_differs_by_one_at_most_and_the_first_stages_have_more(sizes: tuple[int, int]) -> None:
    split = even_split(*sizes)
    assert max(split) - min(split) <= 1
    assert split == sorted(split, reverse=True)


@given(splits)
def test_ranges_touch_and_each_is_as_long_as_its_share(split: list[int]) -> None:
    bounds = ranges(split)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == sum(split)
    assert [stop - start for start, stop in bounds] == split
    assert all(here[1] == after[0] for here, after in pairwise(bounds))


@given(splits, st.integers(-500, 500).filter(bool))
def test_a_split_that_drops_or_repeats_a_layer_is_refused(split: list[int], off: int) -> None:
    with pytest.raises(PlanError):
        check_split(split, sum(split) + off, len(split))


@given(splits, st.data())
def test_a_stage_without_layers_is_refused_even_where_the_sum_fits(split: list[int], data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(split)))
    empty = [*split[:where], 0, *split[where:]]
    with pytest.raises(PlanError, match=f"stage {where}"):
        check_split(empty, sum(empty), len(empty))


@given(splits, st.integers(1, 40))
def test_a_split_for_another_number_of_stages_is_refused(split: list[int], stages: int) -> None:
    if stages != len(split):
        with pytest.raises(PlanError, match="nodes"):
            check_split(split, sum(split), stages)


@given(st.integers(-3, 50), st.integers(-3, 50))
def test_too_few_layers_are_refused_and_enough_are_not(layers: int, stages: int) -> None:
    if 1 <= stages <= layers:
        check_split(even_split(layers, stages), layers, stages)
    else:
        with pytest.raises(PlanError):
            even_split(layers, stages)


def test_the_refusal_shows_the_arithmetic() -> None:
    with pytest.raises(PlanError, match=r"15 \+ 14 = 29 layers, but the model has 30: 1 would run on no stage"):
        check_split([15, 14], 30, 2)
    with pytest.raises(PlanError, match=r"15 \+ 16 = 31 layers, but the model has 30: 1 too many"):
        check_split([15, 16], 30, 2)
    with pytest.raises(PlanError, match="3 stages, but there are 2 nodes"):
        check_split([10, 10, 10], 30, 2)
