"""A plan beside what its pipeline took."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nova.errors import PlanError
from nova.plan.compare import SOURCE, Measured, compare, profiles_from
from nova.plan.inputs import Question, Workload
from nova.plan.predict import predict
from nova.plan.strategies import plan
from nova.wire.plans import PlanReport
from tests.unit.plan.questions import links, model, node

QUESTION = Question(
    model(10),
    [node("a", 2, fixed_ms=5), node("b", 4, head_ms=3), node("c", 9)],
    links(["a", "b", "c"], 1, 16384 / 0.001),
    Workload(head_room=0.0),
    "manual",
    manual=[("a", 6), ("b", 4)],
)
"""a takes 17 ms and b 19; 2 ms go from a to b and 1 back."""


@pytest.fixture
def report() -> PlanReport:
    return plan(QUESTION)


def test_what_is_as_predicted_is_no_deviation(report: PlanReport) -> None:
    assert compare(report, Measured([0.017, 0.019], [0.002, 0.001])) == []
    assert compare(report, Measured([0.018, 0.0175], [0.0021, 0.001])) == []


def test_a_slow_stage_is_named_with_both_figures(report: PlanReport) -> None:
    (deviation,) = compare(report, Measured([0.017, 0.038], [0.002, 0.001]))
    assert (deviation.node, deviation.receiver) == ("b", "")
    assert deviation.text == "the stage on b takes 38.00 ms where 19.00 were predicted (+100%)"


def test_a_hop_is_named_by_both_its_ends_and_the_worst_comes_first(report: PlanReport) -> None:
    found = compare(report, Measured([0.012, 0.019], [0.002, 0.010]))
    assert [(each.node, each.receiver) for each in found] == [("b", "a"), ("a", "")]
    assert found[0].text == "the way from b to a takes 10.00 ms where 1.00 were predicted (+900%)"
    assert found[1].measured_s < found[1].predicted_s


def test_what_is_far_off_but_too_small_to_matter_is_no_deviation(report: PlanReport) -> None:
    assert compare(report, Measured([0.017, 0.019], [0.002, 0.0013])) == []


def test_figures_of_another_pipeline_are_refused(report: PlanReport) -> None:
    with pytest.raises(PlanError, match="2 stages and 2 hops, and 1 and 0 were measured"):
        compare(report, Measured([0.017], []))


def test_profiles_from_a_running_plan_predict_what_was_measured(report: PlanReport) -> None:
    measured = Measured([0.034, 0.0095], [0.008, 0.0005])
    nodes, hops = profiles_from(report, measured, QUESTION.nodes, QUESTION.links)
    stages, _ = predict(replace(QUESTION, nodes=nodes, links=hops), [("a", 6), ("b", 4)])
    assert [stage.step_s for stage in stages] == pytest.approx(measured.stage_s)
    assert [stage.hop_s for stage in stages] == pytest.approx([0.008, 0.0005])
    assert [profile.source for profile in nodes] == [SOURCE, SOURCE, "test"], "c was not measured"
    assert nodes[2] == QUESTION.nodes[2]


def test_a_node_that_turns_out_slow_loses_layers_when_planned_again(report: PlanReport) -> None:
    before = plan(replace(QUESTION, strategy="latency"))
    assert [stage.node for stage in before.stages] == ["a"]
    nodes, hops = profiles_from(before, Measured([0.250], []), QUESTION.nodes, QUESTION.links)
    after = plan(replace(QUESTION, strategy="latency", nodes=nodes, links=hops))
    assert [stage.node for stage in after.stages] == ["b"]


def test_a_hop_that_was_predicted_to_take_nothing_gets_what_was_measured(report: PlanReport) -> None:
    free = replace(QUESTION, links=links(["a", "b", "c"]))
    nodes, hops = profiles_from(plan(free), Measured([0.017, 0.019], [0.004, 0.002]), free.nodes, free.links)
    stages, _ = predict(replace(free, nodes=nodes, links=hops), [("a", 6), ("b", 4)])
    assert [stage.hop_s for stage in stages] == pytest.approx([0.004, 0.002])
