"""The planner's bench tries what it says, and its planner is as good as that."""

from __future__ import annotations

from random import Random

import pytest
from benches.exhaustive import best_seconds, borders
from benches.planner import GOALS, balanced, roomy, tight

from nova.errors import PlanError
from nova.plan.costmodel import CostModel
from nova.plan.inputs import Layer, ModelFigures, Question, Workload
from nova.plan.predict import goal_rate
from nova.plan.strategies import best
from nova.wire.plans import LinkProfile, NodeProfile


def test_every_division_of_the_layers_is_tried_once() -> None:
    assert borders(4, 1).tolist() == [[0, 4]]
    assert sorted(borders(4, 3).tolist()) == [[0, 1, 2, 4], [0, 1, 3, 4], [0, 2, 3, 4]]


def test_the_least_seconds_are_those_worked_out_by_hand() -> None:
    """a holds two of the three layers; a token takes 2 x 10 + 20 ms, 5 ms of head behind b, and 1 ms each way."""
    model = ModelFigures("test", (Layer(10, 10, 0.0, 0),) * 3, 0, 0, 0.0, False, 0)
    flat = [(1, 0.0), (4, 0.0)]
    nodes = [
        NodeProfile("a", 20, 0.0, [(1, 0.010), (4, 0.010)], [(1, 0.025), (4, 0.025)], "test"),
        NodeProfile("b", 20, 0.0, [(1, 0.020), (4, 0.020)], [(1, 0.005), (4, 0.005)], "test"),
        NodeProfile("c", 5, 0.0, flat, flat, "test"),
    ]
    links = [LinkProfile(x, y, 0.001, 1.0) for x in "abc" for y in "abc" if x != y]
    workload = Workload(working_bytes=0, head_room=0.0, batch=4, acceptance=0.5)
    least = best_seconds(Question(model, nodes, links, workload))
    assert least["latency"] == pytest.approx(0.047)
    assert least["throughput"] == pytest.approx(0.047 / 4)
    assert least["speculative"] == pytest.approx((0.047 + 0.025 / 15) / 2)


def test_plans_are_as_good_as_the_best_of_all() -> None:
    random, placed = Random(3), 0
    for _ in range(12):
        question = tight(random, random.randint(1, 4), random.randint(4, 10))
        least = best_seconds(question)
        cost, names = CostModel(question), [node.name for node in question.nodes]
        for goal in GOALS:
            if least[goal] == float("inf"):
                with pytest.raises(PlanError):
                    best(cost, names, goal)
                continue
            placed += 1
            assert 1 / goal_rate(cost, best(cost, names, goal).split, goal) == pytest.approx(least[goal], rel=1e-9)
    assert placed > 9


def test_the_balanced_rule_uses_every_node_and_is_no_better_than_a_plan() -> None:
    question = roomy(Random(5), 3, 24)
    cost, names = CostModel(question), [node.name for node in question.nodes]
    split = balanced(cost, names)
    assert sorted(name for name, _ in split) == names
    assert goal_rate(cost, split, "latency") <= goal_rate(cost, best(cost, names, "latency").split, "latency")
