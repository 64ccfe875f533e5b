"""Emulated machines: the profiles agree with themselves and their sources, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.errors import ModelError, PlanError
from nova.plan.profiles import PREFIX, PROFILES, Profile, check_stages, find_profile, is_emulated
from nova.plan.split import ranges

GAINS = {
    "m5dense": ((1.05, 1.20, 1.75, 1.76), (1.05, 1.20, 1.98, 2.35), (1.05, 1.26, 2.10, 3.07)),
    "m4dense": ((1.15, 1.26, 1.66, 2.00), (1.15, 1.26, 1.76, 2.46), (1.15, 1.45, 2.09, 3.31)),
    "moe": ((1.59, 1.35, 1.54, 2.00), (1.59, 1.35, 1.79, 2.41), (1.59, 2.15, 2.09, 3.09)),
}
"""What micro-batches gain over one batch in lock-step, T(B) / T(ceil(B / S)), for S = 2, 3, 4 and B = 2, 4, 8, 16: the
table from which the design was drawn. Its figures are rounded, and so are the factors that they were made of."""

DIVISIBLE = sorted(GAINS)
SPLITS = st.lists(st.integers(1, 11), min_size=1, max_size=4).map(lambda parts: [*parts, 48 - sum(parts)])


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_profile_has_a_time_and_layers_for_each_stage_and_says_where_from(name: str) -> None:
    profile = find_profile(PREFIX + name)
    assert profile.name == name
    assert len(profile.stage_ms) == len(profile.split)
    assert all(ms > 0 for ms in profile.stage_ms)
    assert all(layers > 0 for layers in profile.split)
    assert profile.layers == sum(profile.split)
    assert profile.hidden > 0
    assert profile.source


def test_the_seed_is_the_pair_of_the_report_and_no_chunk_costs_more_than_a_narrow_one() -> None:
    seed = find_profile("emulated:seed")
    assert (seed.stage_ms, seed.split, seed.layers) == ((70.0, 36.0), (58, 8), 66)
    assert seed.hidden * 2 == 16384  # bfloat16: the 16 KB that cross the link
    assert [seed.position_ms(*layers) for layers in ranges([58, 8])] == [70.0, 36.0]
    assert seed.width_factor(1) == seed.width_factor(7) == seed.width_factor(2048) == 1.0
    assert seed.stages(2) == [58, 8]


@pytest.mark.parametrize("name", DIVISIBLE)
def test_the_gains_of_micro_batches_are_those_of_the_design(name: str) -> None:
    curve = PROFILES[name].width_factor
    for stages, row in zip((2, 3, 4), GAINS[name], strict=True):
        found = [curve(batch) / curve(-(-batch // stages)) for batch in (2, 4, 8, 16)]
        assert found == pytest.approx(row, abs=0.0101), f"S={stages}"


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("m5dense", {1: 76.4, 3: 85.0, 5: 108.2, 8: 167.9, 12: 294.6, 16: 296.0}),
        ("moe", {1: 8.47, 2: 13.49, 3: 15.64, 5: 20.67, 8: 28.13}),
    ],
)
def test_the_widths_are_those_of_the_source(name: str, measured: dict[int, float]) -> None:
    for positions, ms in measured.items():
        assert PROFILES[name].width_factor(positions) == pytest.approx(ms / measured[1], rel=0.005)


@given(st.sampled_from(DIVISIBLE), st.integers(1, 4096))
def test_a_wider_chunk_takes_longer_and_beyond_the_table_in_proportion(name: str, positions: int) -> None:
    profile = PROFILES[name]
    assert profile.width_factor(1) == 1.0
    assert profile.width_factor(positions) < profile.width_factor(positions + 1)
    widest, factor = profile.widths[-1]
    if positions >= widest:
        assert profile.width_factor(positions) == pytest.approx(positions * factor / widest)


@given(st.sampled_from(DIVISIBLE), SPLITS)
def test_whatever_the_split_the_stages_together_take_the_model_s_time(name: str, split: list[int]) -> None:
    profile = PROFILES[name]
    check_stages(profile, split)
    times = [profile.position_ms(*layers) for layers in ranges(split)]
    assert sum(times) == pytest.approx(76.4)
    assert [ms / count for ms, count in zip(times, split, strict=True)] == pytest.approx([76.4 / 48] * len(split))


def test_a_divisible_profile_is_divided_evenly_where_nobody_has_said_how() -> None:
    assert PROFILES["moe"].stages(4) == [12, 12, 12, 12]
    assert PROFILES["moe"].stages(1) == [48]


def test_an_unknown_profile_names_those_that_there_are() -> None:
    with pytest.raises(ModelError, match="no emulated profile 'sead'; there are: seed, "):
        find_profile("emulated:sead")


@given(st.text())
def test_only_the_prefix_makes_a_model_emulated(name: str) -> None:
    assert is_emulated(PREFIX + name)
    assert is_emulated(name) == name.startswith("emulated:")


@given(st.lists(st.integers(1, 66), max_size=4))
def test_the_seed_has_times_for_its_own_stages_only(split: list[int]) -> None:
    seed = PROFILES["seed"]
    check_stages(seed, [58, 8])
    if split != [58, 8]:
        with pytest.raises(PlanError, match="the split 58,8 only"):
            check_stages(seed, split)


def test_times_of_several_runs_of_layers_are_added_up() -> None:
    profile = Profile("two", (10.0, 4.0), (5, 2), 8, "this test", divisible=True)
    assert profile.position_ms(4, 6) == pytest.approx(2.0 + 2.0)
