"""Beyond ten nodes: placements hold, and say honestly how far they may be from the least."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from nova.errors import PlanError
from nova.plan.large import search_large
from nova.plan.search import search
from tests.unit.plan.brute import every_placement
from tests.unit.plan.instances import OBJECTIVES, check, cluster


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("memory", [1.5, 3.0, 8.0])
def test_the_gap_holds_against_the_exact_search(name: str, memory: float) -> None:
    objective = OBJECTIVES[name]
    instance = cluster(5, 12, 12, memory)
    placement = search_large(instance, objective)
    check(instance, placement.order, placement.split)
    best = search(instance, objective, limit_nodes=12)
    value, least = (objective(each.total_s, each.slowest_s) for each in (placement, best))
    assert least <= value * (1 + 1e-9)
    assert value <= least * (1 + placement.gap) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_the_gap_holds_against_every_placement(seed: int) -> None:
    instance = cluster(seed, 4, 9, 1.5 + seed % 3, linked=0.8 if seed % 2 else 1.0)
    instance = replace(instance, pinned=frozenset({0}) if seed % 4 == 0 else frozenset())
    totals, peaks = every_placement(instance)
    for objective in OBJECTIVES.values():
        try:
            placement = search_large(instance, objective)
        except PlanError:
            assert not len(totals), "so few nodes are searched exactly"
            continue
        check(instance, placement.order, placement.split)
        least = objective(totals, peaks).min()
        assert objective(placement.total_s, placement.slowest_s) <= least * (1 + placement.gap) * (1 + 1e-9)


def test_a_few_good_nodes_among_many_are_found_and_nearly_proven() -> None:
    instance = cluster(3, 40, 32, memory=100)
    speeds = np.where(np.arange(40)[:, None] < 2, 1e-3, 50e-3) * np.ones((40, 32))
    placement = search_large(replace(instance, layer_s=speeds), OBJECTIVES["latency"])
    assert set(placement.order) <= {0, 1}
    assert placement.gap < 0.1


def test_pinned_nodes_have_stages_among_many() -> None:
    instance = replace(cluster(3, 30, 40, memory=30), pinned=frozenset({4, 17, 29}))
    for objective in OBJECTIVES.values():
        placement = search(instance, objective)
        check(instance, placement.order, placement.split)


def test_a_thousand_nodes_take_seconds() -> None:
    instance = cluster(2, 1000, 64, memory=100)
    began = time.monotonic()
    placement = search(instance, OBJECTIVES["throughput"])
    assert time.monotonic() - began < 20
    check(instance, placement.order, placement.split)


def test_too_little_memory_is_refused_with_figures() -> None:
    with pytest.raises(PlanError, match="GiB"):
        search(cluster(2, 50, 64, memory=0.5), OBJECTIVES["latency"])
