"""The exact search finds the least there is, and every layer has one stage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova.errors import PlanError
from nova.plan.search import Instance, search
from tests.unit.plan.brute import every_placement
from tests.unit.plan.instances import OBJECTIVES, check, cluster

SIZES = ((1, 24), (2, 24), (3, 24), (4, 12), (5, 8))


@pytest.mark.parametrize("part", range(3))
def test_it_equals_trying_every_placement(part: int) -> None:
    fitting = 0
    for seed in range(part, 300, 3):
        nodes, layers = SIZES[seed // 3 % 5]
        pinned = frozenset({seed % nodes}) if seed % 4 == 0 else frozenset[int]()
        instance = cluster(seed, nodes, layers, 1 + seed % 5 / 4, 0.7 if seed % 2 else 1.0, alike=seed % 7 == 0)
        instance = replace(instance, pinned=pinned)
        totals, peaks = every_placement(instance)
        for name, objective in OBJECTIVES.items():
            if not len(totals):
                with pytest.raises(PlanError, match="no placement fits"):
                    search(instance, objective)
                continue
            placement = search(instance, objective)
            check(instance, placement.order, placement.split)
            found = objective(placement.total_s, placement.slowest_s)
            assert found == pytest.approx(objective(totals, peaks).min(), rel=1e-9), f"{name}, cluster {seed}"
            assert placement.gap == 0
            fitting += 1
    assert fitting > 200, "too few clusters could hold their model"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    nodes=st.integers(1, 6),
    layers=st.integers(1, 40),
    memory=st.floats(0.9, 5),
    name=st.sampled_from(sorted(OBJECTIVES)),
)
def test_every_layer_has_one_stage(seed: int, nodes: int, layers: int, memory: float, name: str) -> None:
    instance = cluster(seed, nodes, layers, memory)
    try:
        placement = search(instance, OBJECTIVES[name])
    except PlanError:
        return
    check(instance, placement.order, placement.split)
    assert placement == instance.placed(placement.order, placement.split)


def test_one_node_is_best_where_hops_cost_more_than_they_gain() -> None:
    instance = cluster(1, 4, 20, memory=20)
    far = replace(instance, hop_s=np.full((4, 4), 10.0))
    assert len(search(far, OBJECTIVES["latency"]).order) == 1


def test_a_pinned_node_has_a_stage_though_it_is_slow() -> None:
    instance = cluster(1, 4, 20, memory=20)
    slow = int(instance.layer_s.sum(axis=1).argmax())
    free = search(instance, OBJECTIVES["latency"])
    pinned = search(replace(instance, pinned=frozenset({slow})), OBJECTIVES["latency"])
    assert slow not in free.order
    assert slow in pinned.order
    assert pinned.total_s > free.total_s


def test_a_tied_embedding_is_held_again_by_another_last_stage() -> None:
    node = cluster(3, 2, 4, memory=20, alike=True)
    tied = replace(node, first_bytes=100, last_bytes=0, tied_bytes=100, capacity=np.array([500, 499]))
    assert search(tied, OBJECTIVES["latency"]).order == (0,), "alone it is held once"
    small = replace(tied, capacity=np.array([300, 299]))
    with pytest.raises(PlanError):
        search(small, OBJECTIVES["latency"])
    assert sorted(search(replace(small, tied_bytes=0), OBJECTIVES["latency"]).split) == [2, 2]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_ten_nodes_and_128_layers_take_seconds(name: str) -> None:
    instance = cluster(7, 10, 128, memory=1.5)
    began = time.monotonic()
    placement = search(instance, OBJECTIVES[name])
    assert time.monotonic() - began < 10
    check(instance, placement.order, placement.split)
    assert placement.gap == 0


def refused(instance: Instance, names: Sequence[str] = ("mini", "studio", "max")) -> str:
    with pytest.raises(PlanError) as caught:
        search(instance, OBJECTIVES["latency"], names=names)
    return str(caught.value)


def test_too_little_memory_is_said_in_figures() -> None:
    instance = cluster(1, 3, 10, memory=20, alike=True)
    gib = 1 << 30
    small = replace(
        instance, layer_bytes=np.full(10, gib), capacity=np.full(3, 3 * gib), first_bytes=gib, last_bytes=gib
    )
    message = refused(small)
    assert "12.0 GiB" in message
    assert "9.0 GiB" in message
    assert "add a node" in message


def test_missing_links_are_named() -> None:
    instance = cluster(1, 3, 10, memory=1.6)
    message = refused(replace(instance, hop_s=np.full((3, 3), np.inf)))
    assert "no link from mini to studio" in message


def test_a_layer_above_every_node_is_named() -> None:
    instance = replace(cluster(1, 3, 10, memory=20, alike=True), capacity=np.full(3, 1000))
    heavy = instance.layer_bytes.copy()
    heavy[4] = 1001
    assert "layer 4 needs" in refused(replace(instance, layer_bytes=heavy))


def test_a_pinned_node_without_room_is_named() -> None:
    instance = cluster(1, 3, 10, memory=20)
    room = instance.capacity.copy()
    room[1] = 0
    assert "studio, which must have a stage" in refused(replace(instance, capacity=room, pinned=frozenset({1})))


def test_more_pinned_nodes_than_layers_are_refused() -> None:
    assert "2 layers" in refused(replace(cluster(1, 3, 2, memory=20, alike=True), pinned=frozenset({0, 1, 2})))


def test_whole_layers_that_fit_no_division_are_refused() -> None:
    instance = cluster(1, 3, 3, memory=20, alike=True)
    blocks = replace(instance, first_bytes=0, last_bytes=0, tied_bytes=0, capacity=np.array([230, 230, 0]))
    assert "no division into whole layers" in refused(replace(blocks, layer_bytes=np.full(3, 120)))
