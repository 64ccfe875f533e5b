"""Placements by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.errors import PlanError
from nova.plan import rules
from nova.plan.costmodel import CostModel
from nova.plan.inputs import Question, Workload
from tests.unit.plan.questions import links, model, node, seed


def cluster(*gib: float, layers: int = 12, layer_ms: float = 1.0, min_layers: int = 1) -> CostModel:
    """Nodes a, b, c, ... with so much memory each, a the fastest; a layer takes 1 GiB, and nothing else any."""
    names = "abcdefgh"[: len(gib)]
    nodes = [
        node(name, layer_ms * (index + 1), gib=each) for index, (name, each) in enumerate(zip(names, gib, strict=True))
    ]
    workload = Workload(head_room=0.0, working_bytes=0, min_layers=min_layers)
    return CostModel(Question(model(layers), nodes, links(list(names)), workload))


def test_spread_gives_the_slow_node_of_the_report_its_minimum() -> None:
    assert rules.spread(CostModel(seed()), ["mini", "max"]) == [("max", 58), ("mini", 8)]


def test_spread_fills_the_fastest_node_first_and_every_other_in_turn() -> None:
    cost = cluster(6, 20, 20, min_layers=2)
    assert rules.spread(cost, ["c", "b", "a"]) == [("a", 6), ("b", 4), ("c", 2)]


def test_spread_says_which_stage_lacks_how_much() -> None:
    with pytest.raises(PlanError, match=r"c lacks 3\.00 GiB: 4 layers"):
        rules.spread(cluster(4, 4, 1), ["a", "b", "c"])


def test_spread_refuses_a_minimum_that_the_model_cannot_give() -> None:
    with pytest.raises(PlanError, match=r"at least 5 layers, and the model has 12: lower plan\.min_layers"):
        rules.spread(cluster(20, 20, 20, min_layers=5), ["a", "b", "c"])


def test_memory_gives_layers_in_proportion_by_largest_remainders() -> None:
    assert rules.by_memory(cluster(24, 12, 12), ["a", "b", "c"]) == [("a", 6), ("b", 3), ("c", 3)]
    assert rules.by_memory(cluster(19, 11, 30, layers=10), ["a", "b", "c"]) == [("a", 3), ("b", 2), ("c", 5)]


def test_memory_gives_every_node_a_layer_and_says_who_cannot_hold_it() -> None:
    assert rules.by_memory(cluster(100, 1), ["a", "b"]) == [("a", 11), ("b", 1)]
    with pytest.raises(PlanError, match=r"memory does not fit: b lacks 0\.50 GiB: 1 layers"):
        rules.by_memory(cluster(100, 0.5), ["a", "b"])


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=8), st.integers(8, 60))
def test_memory_places_every_layer_whatever_the_sizes(sizes: list[float], layers: int) -> None:
    nodes = [node(f"n{index}", 1.0, gib=size) for index, size in enumerate(sizes)]
    workload = Workload(working_bytes=0, head_room=0.0)
    light = CostModel(Question(model(layers, layer_bytes=0), nodes, links([each.name for each in nodes]), workload))
    split = rules.by_memory(light, list(light.nodes))
    assert sum(count for _, count in split) == layers
    assert min(count for _, count in split) >= 1


def test_an_even_split_needs_a_layer_for_every_node() -> None:
    assert rules.evenly(cluster(9, 9, layers=5), ["a", "b"]) == [("a", 3), ("b", 2)]
    with pytest.raises(PlanError, match="2 layers cannot fill 3 stages"):
        rules.evenly(cluster(9, 9, 9, layers=2), ["a", "b", "c"])


def test_a_manual_plan_is_taken_as_it_is_if_it_covers_the_model_and_fits() -> None:
    cost = cluster(8, 8)
    assert rules.manual(cost, [("b", 5), ("a", 7)]) == [("b", 5), ("a", 7)]
    for split, message in (
        ([("a", 4), ("b", 7)], "1 would run on no stage"),
        ([("a", 9), ("b", 3)], r"manual does not fit: a lacks 1\.00 GiB"),
        ([("a", 6), ("a", 6)], "has a 2 times"),
        ([("z", 12)], "no node 'z'"),
        ([], "needs nodes"),
    ):
        with pytest.raises(PlanError, match=message):
            rules.manual(cost, split)
