"""What is said of a placement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nova.plan.inputs import Question, Workload
from nova.plan.strategies import plan
from nova.wire.plans import NodeProfile, PlanReport
from tests.unit.plan.questions import links, model, node


def report(a: NodeProfile, b: NodeProfile, hop_ms: float = 1.0, strategy: str = "manual") -> PlanReport:
    question = Question(
        model(10), [a, b], links(["a", "b"], hop_ms), Workload(head_room=0.0), manual=[("a", 5), ("b", 5)]
    )
    return plan(replace(question, strategy=strategy))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("a", "b", "hop_ms", "said"),
    [
        (
            node("a", 1),
            node("b", 3),
            1.0,
            "b takes 15.0 of a token's 22.0 ms (68%): it has 5 of 10 layers and the head",
        ),
        (node("a", 4), node("b", 3), 1.0, "a takes 20.0 of a token's 37.0 ms (54%): it has 5 of 10 layers"),
        (node("a", 1), node("b", 1, head_ms=9), 1.0, "b takes 14.0 of a token's 21.0 ms (67%): the head takes 9.0 ms"),
        (node("a", 1, fixed_ms=9), node("b", 1), 1.0, "a takes 14.0 of a token's 21.0 ms (67%): 9.0 ms of a step are"),
        (node("a", 1), node("b", 1), 20.0, "the way from a to b takes 20.0 of a token's 50.0 ms (40%): a faster link"),
    ],
)
def test_the_bottleneck_is_named_with_its_share_and_its_reason(
    a: NodeProfile, b: NodeProfile, hop_ms: float, said: str
) -> None:
    assert report(a, b, hop_ms).bottleneck.startswith(said)


def test_alternatives_are_each_told_once_the_best_first() -> None:
    found = report(node("a", 1), node("b", 3)).alternatives
    placements = [[(stage.node, stage.layers) for stage in each.stages] for each in found]
    assert placements == [[("a", 10)]], "by memory and even are what the plan is"
    assert found[0].what == "a alone"
    assert found[0].loss == pytest.approx(1 - 22 / 10)


def test_nothing_is_advised_where_splitting_is_right_or_there_is_one_node() -> None:
    small = report(node("a", 1, gib=7), node("b", 3, gib=7), strategy="latency")
    assert len(small.stages) == 2
    assert small.advice == ""
    alone = Question(model(10), [node("a", 1)], [], Workload(head_room=0.0), "latency")
    assert plan(alone).advice == ""
    assert plan(alone).alternatives == []


def test_over_many_nodes_a_plan_says_what_it_may_miss() -> None:
    names = [f"n{number}" for number in range(14)]
    nodes = [node(name, 1 + number / 10, gib=4, head_ms=number) for number, name in enumerate(names)]
    question = Question(model(24), nodes, links(names, 0.5), Workload(batch=4, head_room=0.0))
    for strategy in ("latency", "throughput", "speculative"):
        found = plan(replace(question, strategy=strategy))
        held = [n for stage in found.stages for n in range(stage.first_layer, stage.first_layer + stage.layers)]
        assert held == list(range(24))
        assert all(stage.used_bytes <= stage.memory_bytes for stage in found.stages)
        assert found.gap >= 0
        assert {stage.node for stage in found.stages} | set(found.excluded) == set(names)
