from __future__ import annotations

from itertools import pairwise

import pytest

from nova.errors import PlanError
from nova.plan.chips import CHIPS, GIB, find, profile_of, usable_bytes
from nova.plan.costmodel import at
from nova.plan.inputs import Layer, ModelFigures
from nova.wire.plans import NodeProfile

REPORTED = ModelFigures(
    name="reported",
    layers=(Layer(215_000_000, 215_000_000, 2 * 382e6, 4096),) * 64,
    embedding_bytes=720_000_000,
    head_bytes=720_000_000,
    head_flops=2 * 1.28e9,
    tied=False,
    hidden_bytes=16384,
)
"""The NovaMLX report's model: 0.215 GB a layer and a head of 0.72 GB."""


def alone_s(node: NodeProfile) -> float:
    return node.fixed_s + len(REPORTED.layers) * at(node.layer_s, 1) + at(node.head_s, 1)


@pytest.mark.parametrize(
    "name", ["M4 Max", "Apple M4 Max", "m4-max", "m4max 40", "M4 MAX (40 GPU cores)", "m4_max_40c"]
)
def test_a_chip_is_found_by_what_people_call_it(name: str) -> None:
    assert (find(name).family, find(name).gpu_cores, find(name).bandwidth) == ("M4 Max", 40, 546e9)


def test_every_chip_is_found_by_its_own_name() -> None:
    assert [find(chip.name) for chip in CHIPS] == list(CHIPS)


def test_the_number_of_cores_tells_variants_apart() -> None:
    assert find("M4 Max 32").bandwidth == 410e9
    assert find("M3 Max 30-core").bandwidth == 300e9


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("M4 Mex", "M4 Max"),
        ("M4 Max 38", "M4 Max (32 GPU cores)"),
        ("M4 Max 32 40", "M4 Max"),
        ("RTX 5090", "own figures"),
    ],
)
def test_an_unknown_chip_is_refused_with_what_comes_near(name: str, near: str) -> None:
    with pytest.raises(PlanError, match="no chip") as refused:
        find(name)
    assert near in str(refused.value)


def test_within_a_generation_a_larger_chip_is_never_slower() -> None:
    rank = {"": 0, "Pro": 1, "Max": 2, "Ultra": 3}
    for small in CHIPS:
        for large in CHIPS:
            same = small.family[:2] == large.family[:2]
            if same and rank[small.family[3:]] < rank[large.family[3:]]:
                assert small.bandwidth < large.bandwidth
                assert small.flops < large.flops


def test_macos_leaves_two_thirds_of_a_small_memory_and_three_quarters_of_a_large_one() -> None:
    assert usable_bytes(16 * GIB) >> 20 == 10922  # llama.cpp logs 10922.67 MB
    assert usable_bytes(32 * GIB) >> 20 == 21845
    assert usable_bytes(36 * GIB) == 27 * GIB
    assert usable_bytes(128 * GIB) == 96 * GIB


def test_the_reports_fast_machine_alone_is_predicted_at_30_tokens_per_second_and_more() -> None:
    fast = profile_of("max", find("M4 Max"), 128 * GIB, REPORTED)
    slow = profile_of("mini", find("M4"), 24 * GIB, REPORTED)
    assert 30 < 1 / alone_s(fast) < 33
    assert 6 < 1 / alone_s(slow) < 8
    assert fast.bandwidth == 546e9


def test_the_reports_split_takes_what_the_roofline_says() -> None:
    """26.4 ms of 57 layers and 21.8 ms of 7 layers and the head, at 85 % of the bandwidth."""
    fast = profile_of("max", find("M4 Max"), 128 * GIB, REPORTED)
    slow = profile_of("mini", find("M4"), 24 * GIB, REPORTED)
    assert 57 * at(fast.layer_s, 1) == pytest.approx(0.0264, rel=0.01)
    assert 7 * at(slow.layer_s, 1) + at(slow.head_s, 1) == pytest.approx(0.0218, rel=0.01)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_a_wider_chunk_takes_longer_and_a_position_of_it_less(chip: object) -> None:
    node = profile_of("node", find(chip.name), 16 * GIB, REPORTED)  # type: ignore[attr-defined]
    for points in (node.layer_s, node.head_s):
        assert [n for n, _ in points] == [1, 2, 3, 4, 5, 6, 7, 8, 64, 256, 512]
        for (narrow, less), (wide, more) in pairwise(points):
            assert less <= more
            assert more / wide <= less / narrow * 1.0001


def test_a_long_prompt_runs_at_what_the_arithmetic_allows() -> None:
    node = profile_of("node", find("M4 Max"), 128 * GIB, REPORTED)
    per_second = 512 / (64 * at(node.layer_s, 512))
    assert per_second == pytest.approx(40 * 0.376e12 * 0.7 / (64 * 2 * 382e6), rel=0.01)


def test_experts_that_are_not_chosen_are_read_by_long_chunks_only() -> None:
    sparse = Layer(400_000_000, 40_000_000, 2 * 70e6, 1024)
    model = ModelFigures("sparse", (sparse,) * 4, 0, 0, 0.0, False, 4096)
    node = profile_of("node", find("M4 Max"), 128 * GIB, model)
    assert at(node.layer_s, 1) == pytest.approx(40e6 / (546e9 * 0.85))
    assert at(node.layer_s, 64) >= 400e6 / (546e9 * 0.85)


def test_more_memory_than_the_chip_comes_with_is_refused() -> None:
    with pytest.raises(PlanError, match="at most 32 GB, not 64"):
        profile_of("mini", find("M4"), 64 * GIB, REPORTED)


def test_an_emulated_model_is_refused_as_it_has_no_bytes() -> None:
    emulated = ModelFigures("emulated:seed", (Layer(0, 1, 0.0, 0),), 0, 0, 0.0, False, 16384)
    with pytest.raises(PlanError, match="layer_ms"):
        profile_of("node", find("M4"), 16 * GIB, emulated)
