"""From a question to a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, permutations
from random import Random

import msgspec
import pytest

from nova.errors import PlanError
from nova.plan import rules
from nova.plan.chips import find, profile_of
from nova.plan.costmodel import CostModel, Split
from nova.plan.inputs import Layer, ModelFigures, Question, Strategy, Workload
from nova.plan.predict import Goal, goal_rate, predict, rate
from nova.plan.strategies import plan
from nova.wire.plans import LinkProfile, PlanReport
from tests.unit.plan.questions import GIB, links, model, node, random_question, seed

GOALS: tuple[Goal, ...] = ("latency", "throughput", "speculative")


def split(report: PlanReport) -> list[tuple[str, int]]:
    return [(stage.node, stage.layers) for stage in report.stages]


def every_placement(names: list[str], layers: int) -> Iterator[list[tuple[str, int]]]:
    for used in range(1, min(len(names), layers) + 1):
        for order in permutations(names, used):
            for cuts in combinations(range(1, layers), used - 1):
                borders = [0, *cuts, layers]
                yield [(name, borders[at + 1] - borders[at]) for at, name in enumerate(order)]


def best_of_all(question: Question, goal: Goal) -> float:
    cost = CostModel(question)
    fitting: Iterator[Split] = (
        each
        for each in every_placement([one.name for one in question.nodes], len(question.model.layers))
        if not rules.lacks(cost, each)
    )
    return max((goal_rate(cost, each, goal) for each in fitting), default=0.0)


@pytest.mark.parametrize("goal", GOALS)
def test_an_objective_finds_what_trying_everything_finds(goal: Goal) -> None:
    random, placed = Random(7), 0
    for _ in range(25):
        question = replace(random_question(random, random.randint(1, 3), random.randint(3, 6), 3), strategy=goal)
        best = best_of_all(question, goal)
        if not best:
            with pytest.raises(PlanError):
                plan(question)
            continue
        report = plan(question)
        placed += 1
        assert rate(report.prediction, goal) == pytest.approx(best, rel=1e-6)
        assert report.gap <= 1e-6
        assert not rules.lacks(CostModel(question), split(report))
        assert all(each.loss >= -1e-6 for each in report.alternatives)
        assert {stage.node for stage in report.stages} | set(report.excluded) == {one.name for one in question.nodes}
    assert placed > 10


def test_the_reports_rule_moves_its_layers_and_one_machine_is_said_to_be_faster() -> None:
    report = plan(seed())
    assert split(report) == [("max", 58), ("mini", 8)]
    assert report.objective == report.strategy == "spread"
    assert report.advice == "max alone is faster for one stream: 14.3 tok/s against 9.2 with 2 nodes"
    assert report.bottleneck.startswith("max takes 70.0 of a token's 109.0 ms (64%)")
    before = predict(seed(), [("max", 54), ("mini", 12)])[1]
    assert report.prediction.tok_s / before.tok_s == pytest.approx(9.2 / 8.4, rel=0.03)


def test_auto_stays_on_one_node_where_that_is_faster_and_says_what_splitting_would_lose() -> None:
    question = replace(seed(strategy="auto"), nodes=[node("max", 1.0), node("mini", 4.5, head_ms=12)])
    report = plan(question)
    assert split(report) == [("max", 66)]
    assert (report.strategy, report.objective) == ("auto", "latency")
    assert report.advice.startswith("max alone is fastest for one stream: 15.2 tok/s; with 2 nodes it would be 13.8")
    assert report.excluded["mini"] == "not needed: with one layer there a token would take 6.5 ms longer"


def test_by_chip_data_and_the_models_bytes_the_reports_fast_machine_is_faster_alone() -> None:
    """0.215 GB a layer and 0.72 GB of head, as 27 billion parameters of 4 bits have; the report's cable, 3 ms there
    and back. The report says that this machine alone runs the model at 30 tok/s and more."""
    layer = Layer(215_000_000, 215_000_000, 860e6, 0)
    figures = ModelFigures("report", (layer,) * 64, 720_000_000, 720_000_000, 2.9e9, False, 16384)
    nodes = [
        profile_of("max", find("M4 Max"), 128 * GIB, figures),
        profile_of("mini", find("M4"), 24 * GIB, figures),
    ]
    report = plan(Question(figures, nodes, links(["max", "mini"], 1.5, 4e9), Workload(), "latency"))
    assert split(report) == [("max", 64)]
    assert report.prediction.tok_s > 30
    both = max(each.prediction.tok_s for each in report.alternatives if len(each.stages) == 2)
    assert f"max alone is fastest for one stream: {report.prediction.tok_s:.1f} tok/s; with 2 nodes it" in report.advice
    assert f"would be {both:.1f}" in report.advice


@pytest.mark.parametrize(("prefer", "goal"), [("stream", "latency"), ("many", "throughput"), ("speculative",) * 2])
def test_auto_plans_for_what_the_workload_prefers(prefer: str, goal: str) -> None:
    question = seed(strategy="auto")
    workload = replace(question.workload, prefer=prefer)  # type: ignore[arg-type]
    assert plan(replace(question, workload=workload)).objective == goal


def two(strategy: Strategy = "latency", **changes: object) -> Question:
    nodes = [node("a", 1.0, gib=40), node("b", 2.0, gib=30), node("c", 5.0, gib=4)]
    hops = links(["a", "b", "c"], 1.0)
    return Question(model(30), nodes, hops, Workload(working_bytes=0, head_room=0.0), strategy, **changes)  # type: ignore[arg-type]


def test_throughput_uses_both_nodes_where_one_stream_would_use_one() -> None:
    """Their rows cost nearly as much as the first, so that two nodes get through more of them."""
    nodes = [node("a", 1.0, gib=40, rise=0.9), node("b", 2.0, gib=30, rise=0.9)]
    question = replace(two("throughput"), nodes=nodes, workload=Workload(batch=8, working_bytes=0, head_room=0.0))
    report = plan(question)
    assert {"a", "b"} <= {stage.node for stage in report.stages}
    assert "busy" in report.bottleneck
    assert "a alone" in {each.what for each in report.alternatives}
    assert split(plan(replace(question, strategy="latency"))) == [("a", 30)]


def test_a_pinned_node_has_a_stage_and_the_price_is_told() -> None:
    report = plan(two(pinned=frozenset({"c"})))
    assert ("c", 1) in split(report)
    assert report.advice.startswith("a alone is faster for one stream: 33.3 tok/s")


def test_an_excluded_node_has_none_and_keeps_its_reason() -> None:
    report = plan(two(excluded={"a": "excluded by plan.exclude", "z": "did not answer"}, pinned=frozenset()))
    assert split(report) != [("a", 30)]
    assert "a" not in {stage.node for stage in report.stages}
    assert report.excluded["a"] == "excluded by plan.exclude"
    assert report.excluded["z"] == "did not answer"


def fails(question: Question, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(question)


def test_what_cannot_be_planned_is_refused_with_its_reason() -> None:
    fails(two(pinned=frozenset({"z"})), "z is pinned, but is none of the nodes: a, b, c")
    fails(two(pinned=frozenset({"a"}), excluded={"a": "too hot"}), "a is pinned, but cannot be used: too hot")
    fails(two(excluded=dict.fromkeys("abc", "too hot")), "there is no node to plan with: a: too hot; b: too hot")
    fails(two("manual", manual=[("b", 10), ("a", 20)], pinned=frozenset("c")), "no stage on c, which plan.pin asks for")
    fails(two("manual", manual=[("b", 10), ("a", 20)], excluded={"b": "no"}), "a stage on b, which may have none")
    fails(replace(two(), nodes=[node("a", 1), node("a", 2)]), "a is described 2 times")
    fails(
        replace(two("memory"), nodes=[node("a", 1, gib=20), node("b", 1, gib=4)]), "memory does not fit: a lacks 5.00"
    )
    fails(replace(two(), nodes=[node("a", 1, gib=3), node("b", 1, gib=3)]), "GiB")


def test_a_node_without_a_link_is_left_out_and_told_so() -> None:
    hops = [LinkProfile("a", "b", 0.001, 0.0), LinkProfile("b", "a", 0.001, 0.0)]
    report = plan(replace(two(), links=hops))
    assert report.excluded["c"] == "no link, there and back, to a"
    assert report.excluded["b"].startswith("not needed")
    assert "layers in proportion to memory: no link from b to c" in report.notes[1]


def test_a_model_that_no_node_holds_is_split_and_the_note_says_what_is_missing() -> None:
    question = replace(two(), nodes=[node("a", 1.0, gib=20), node("b", 2.0, gib=20)])
    report = plan(question)
    assert sorted(split(report)) == [("a", 20), ("b", 10)]
    assert report.advice == ""
    assert "no node alone holds the model: a lacks 10.00 GiB" in report.notes[0]


def test_a_manual_plan_is_measured_against_what_would_be_better() -> None:
    report = plan(two("manual", manual=[("b", 20), ("a", 10)]))
    assert split(report) == [("b", 20), ("a", 10)]
    assert report.excluded == {"c": "the manual plan gives it no layers"}
    (alone,) = [each for each in report.alternatives if each.what == "a alone"]
    assert alone.loss == pytest.approx(1 - 52 / 30)
    assert report.bottleneck == "b takes 40.0 of a token's 52.0 ms (77%): it has 20 of 30 layers"


def test_a_report_goes_over_the_wire_and_names_its_workload() -> None:
    report = plan(seed())
    assert msgspec.json.decode(msgspec.json.encode(report), type=PlanReport) == report
    assert (report.batch, report.context, report.prompt) == (1, 4096, 512)
