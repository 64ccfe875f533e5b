"""Emulated machines: the profiles agree with themselves, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.errors import ModelError, PlanError
from nova.plan.profiles import PREFIX, PROFILES, check_stages, find_profile, is_emulated


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


def test_the_seed_is_the_pair_of_the_report() -> None:
    seed = find_profile("emulated:seed")
    assert (seed.stage_ms, seed.split, seed.layers) == ((70.0, 36.0), (58, 8), 66)
    assert seed.hidden * 2 == 16384  # bfloat16: the 16 KB that cross the link


def test_an_unknown_profile_names_those_that_there_are() -> None:
    with pytest.raises(ModelError, match="no emulated profile 'sead'; there are: seed"):
        find_profile("emulated:sead")


@given(st.text())
def test_only_the_prefix_makes_a_model_emulated(name: str) -> None:
    assert is_emulated(PREFIX + name)
    assert is_emulated(name) == name.startswith("emulated:")


@given(st.lists(st.integers(1, 66), max_size=4))
def test_a_profile_has_times_for_its_own_stages_only(split: list[int]) -> None:
    seed = PROFILES["seed"]
    check_stages(seed, [58, 8])
    if split != [58, 8]:
        with pytest.raises(PlanError, match="the split 58,8 only"):
            check_stages(seed, split)
