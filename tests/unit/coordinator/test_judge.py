"""A plan against what its group takes: met, missed, and missed so that another placement gains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nova.coordinator.judge import GAIN, judge
from nova.coordinator.planner import Planned
from nova.errors import PlanError
from nova.plan.compare import Measured
from nova.plan.inputs import Question, Workload
from nova.plan.predict import predict
from nova.plan.strategies import plan
from tests.unit.plan.questions import links, model, node

LAYERS = 40


def question(**changes: object) -> Question:
    """Two nodes that are needed both, one of which is twice as fast."""
    nodes = [node("fast", 1.0, gib=30.0), node("slow", 2.0, gib=30.0)]
    asked = Question(model(LAYERS), nodes, links(["fast", "slow"], 0.1), Workload(head_room=0.0), "latency")
    return replace(asked, **changes)  # type: ignore[arg-type]


def planned(asked: Question) -> Planned:
    return Planned(asked, plan(asked))


def measured(plan: Planned, **factors: float) -> Measured:
    """What it takes where nodes are so many times slower than predicted."""
    stages = plan.report.stages
    return Measured([each.step_s * factors.get(each.node, 1.0) for each in stages], [each.hop_s for each in stages])


def test_a_plan_that_is_met_is_left_alone() -> None:
    here = planned(question())
    assert dict(here.placement) == {"fast": 29, "slow": 11}
    judgement = judge(here, measured(here, fast=1.05))
    assert (judgement.deviations, judgement.better, judgement.advice) == ([], None, "")


def test_a_node_that_is_slower_than_planned_is_told_and_gets_fewer_layers_if_that_gains() -> None:
    here = planned(question())
    judgement = judge(here, measured(here, fast=4.0))
    (deviation,) = judgement.deviations
    assert "fast" in deviation.text
    assert judgement.better is not None
    assert dict(judgement.better.placement) == {"fast": 11, "slow": 29}
    assert judgement.gain > GAIN
    assert f"{judgement.gain:.0%}" in judgement.advice
    assert "slow: 29" in judgement.advice


def test_the_gain_is_what_the_corrected_prediction_says_of_both() -> None:
    here = planned(question())
    better = judge(here, measured(here, fast=4.0)).better
    assert better is not None
    before = predict(better.question, here.placement)[1].token_s
    assert before == pytest.approx(sum(measured(here, fast=4.0).stage_s) + 0.0002, rel=0.01)


def test_a_better_plan_is_met_and_so_nothing_moves_to_and_fro() -> None:
    here = planned(question())
    better = judge(here, measured(here, fast=4.0)).better
    assert better is not None
    assert judge(better, measured(better)).deviations == []


def test_a_deviation_that_no_other_placement_mends_suggests_none() -> None:
    here = planned(question())
    judgement = judge(here, measured(here, slow=1.5))
    assert judgement.deviations
    assert judgement.better is None


def test_a_rule_s_plan_is_judged_by_what_is_preferred() -> None:
    here = planned(question(strategy="memory"))
    judgement = judge(here, measured(here, fast=4.0))
    assert judgement.deviations
    assert judgement.better is None  # memory has not changed


def test_another_pipeline_s_times_are_refused() -> None:
    with pytest.raises(PlanError):
        judge(planned(question()), Measured([1.0], []))
