"""What a placement gives, against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.errors import PlanError
from nova.plan.costmodel import CostModel
from nova.plan.inputs import Layer, Question, Workload
from nova.plan.predict import at, goal_rate, predict
from nova.wire.plans import LinkProfile, NodeProfile
from tests.unit.plan.questions import GIB, links, model, node, seed

CURVE = [(1, 1.0), (3, 2.0), (5, 4.0)]


@pytest.mark.parametrize(
    ("positions", "seconds"), [(0, 1.0), (1, 1.0), (2, 1.5), (3, 2.0), (4, 3.0), (5, 4.0), (7, 6.0)]
)
def test_a_curve_goes_along_its_points_and_on_along_the_last_two(positions: int, seconds: float) -> None:
    assert at(CURVE, positions) == pytest.approx(seconds)


def test_a_curve_of_one_point_is_flat_of_none_is_nothing_and_a_falling_end_does_not_go_below_its_last_point() -> None:
    assert at([(4, 2.0)], 1) == at([(4, 2.0)], 9) == 2.0
    assert at([], 3) == 0.0
    assert at([(1, 2.0), (2, 1.0)], 50) == 1.0


def test_a_stage_costs_its_fixed_time_its_layers_by_bytes_read_and_the_head() -> None:
    layers = (Layer(GIB, 100, 0, 0), Layer(GIB, 300, 0, 0), Layer(GIB, 200, 0, 0))
    profile = NodeProfile("a", GIB, 0.001, [(1, 0.010), (2, 0.016)], [(1, 0.004), (2, 0.006)], "test")
    question = Question(replace(model(3), layers=layers), [profile], [])
    cost = CostModel(question)
    assert cost.stage_s("a", 0, 1, 1, 1) == pytest.approx(0.001 + 0.010 / 2)
    assert cost.stage_s("a", 0, 2, 2, 2) == pytest.approx(0.001 + 0.016 * 2)
    assert cost.stage_s("a", 1, 3, 2, 2) == pytest.approx(0.001 + 0.016 * 2.5 + 0.006)
    assert cost.stage_s("a", 1, 3, 2, 0) == pytest.approx(0.001 + 0.016 * 2.5), "a piece of a prompt skips the head"


def test_a_hop_carries_hidden_states_and_the_way_back_token_ids() -> None:
    question = Question(model(2), [node("a", 10), node("b", 10)], links(["a", "b"], 2, 16384 / 0.001))
    stages, prediction = predict(question, [("a", 1), ("b", 1)])
    assert [stage.hop_s for stage in stages] == pytest.approx([0.003, 0.002])
    assert prediction.token_s == pytest.approx(0.025)
    assert CostModel(question).hop_s("a", "b", 3) == pytest.approx(0.005)


def test_the_reports_two_splits_are_predicted_within_three_percent() -> None:
    for placement, token_s, tok_s in (
        ([("max", 54), ("mini", 12)], 0.119, 8.4),
        ([("max", 58), ("mini", 8)], 0.108, 9.2),
    ):
        prediction = predict(seed(), placement)[1]
        assert prediction.token_s == pytest.approx(token_s, rel=0.03)
        assert prediction.tok_s == pytest.approx(tok_s, rel=0.03)


def test_speculation_is_the_closed_form_at_its_best_width() -> None:
    """At width 1 an epoch takes L + tau 0.8 / 0.2; here each position costs as much as the first, so that 1 is best."""
    profile = [NodeProfile(name, GIB, 0.0, [(1, 0.01), (2, 0.02)], [], "test") for name in "ab"]
    question = Question(model(4), profile, links(["a", "b"]), Workload(acceptance=0.8))
    prediction = predict(question, [("a", 2), ("b", 2)])[1]
    assert prediction.width == 1
    assert prediction.speculative_tok_s == pytest.approx(5 / (0.04 + 0.02 * 4))


def test_free_width_makes_speculative_chunks_wide() -> None:
    profile = [NodeProfile(name, GIB, 0.0, [(1, 0.01)], [], "test") for name in "ab"]
    question = Question(model(4), profile, links(["a", "b"]), Workload(acceptance=0.8))
    prediction = predict(question, [("a", 2), ("b", 2)])[1]
    assert prediction.width == 4
    assert prediction.speculative_tok_s == pytest.approx(5 / (0.04 + 0.02 * 0.8**4 / (1 - 0.8**4)))


def test_without_acceptance_speculation_gains_nothing() -> None:
    prediction = predict(replace(seed(), workload=Workload(acceptance=0.0)), [("max", 58), ("mini", 8)])[1]
    assert prediction.speculative_tok_s == pytest.approx(prediction.tok_s)


def test_a_batch_is_divided_where_that_fills_the_stages() -> None:
    """Two equal stages: rows that cost as much as the first are best in two groups; rows that cost nothing in one."""
    dear = [NodeProfile(name, GIB, 0.0, [(1, 0.01), (2, 0.02)], [], "test") for name in "ab"]
    question = Question(model(4), dear, links(["a", "b"]), Workload(batch=2))
    prediction = predict(question, [("a", 2), ("b", 2)])[1]
    assert prediction.groups == 2
    assert prediction.aggregate_tok_s == pytest.approx(2 / 0.04)
    free = [NodeProfile(name, GIB, 0.0, [(1, 0.01)], [], "test") for name in "ab"]
    prediction = predict(replace(question, nodes=free), [("a", 2), ("b", 2)])[1]
    assert prediction.groups == 1
    assert prediction.aggregate_tok_s == pytest.approx(2 / 0.04)


def test_a_prompt_goes_in_pieces_where_that_overlaps_the_stages() -> None:
    """Time in proportion to positions: four pieces of 256 over two stages take 5 / 8 of one piece of 1024."""
    profile = [NodeProfile(name, GIB, 0.0, [(1, 0.001), (1024, 1.024)], [], "test") for name in "ab"]
    question = Question(model(2), profile, links(["a", "b"]), Workload(prompt=1024))
    prediction = predict(question, [("a", 1), ("b", 1)])[1]
    assert prediction.prefill_chunk == 256
    assert prediction.ttft_s == pytest.approx(2 * 0.256 + 3 * 0.256 + prediction.token_s)
    alone = predict(question, [("a", 2)])[1]
    assert alone.ttft_s == pytest.approx(2.048 + alone.token_s)


def test_a_stage_holds_weights_caches_of_all_requests_and_what_its_place_brings() -> None:
    layers = (Layer(1000, 1000, 0, 10, 7), Layer(1000, 1000, 0, 10, 7, 3), Layer(1000, 1000, 0, 10, 7))
    workload = Workload(context=5, batch=2, working_bytes=50)
    figures = replace(model(3, head_bytes=300, embedding_bytes=200), layers=layers)
    cost = CostModel(Question(figures, [node("a", 1)], [], workload))
    assert cost.used_bytes(0, 1) == 1000 + 200 + 2 * (7 + 50) + 50
    assert cost.used_bytes(1, 2) == 1000 + 2 * (7 + 30) + 50, "a window keeps its caches small"
    assert cost.used_bytes(2, 3) == 1000 + 300 + 2 * 57 + 50
    tied = CostModel(Question(replace(figures, head_bytes=0, tied=True), [node("a", 1)], [], workload))
    assert tied.used_bytes(2, 3) == 1000 + 200 + 2 * 57 + 50, "a tied head reads the embedding"
    assert tied.used_bytes(0, 3) == 3000 + 200 + 2 * (57 + 37 + 57) + 50, "which is there once on one node"


def test_the_roofline_is_the_time_that_reading_takes_over_the_time_predicted() -> None:
    profile = NodeProfile("a", GIB, 0.0, [(1, 0.5)], [(1, 0.5)], "test", bandwidth=4.0 * GIB)
    stages, _ = predict(Question(model(1, GIB, head_bytes=GIB), [profile], []), [("a", 1)])
    assert stages[0].roofline == pytest.approx(0.5)


@given(st.integers(1, 65))
def test_every_layer_is_on_one_stage_wherever_the_border_is(border: int) -> None:
    stages, _ = predict(seed(), [("max", border), ("mini", 66 - border)])
    held = [layer for stage in stages for layer in range(stage.first_layer, stage.first_layer + stage.layers)]
    assert held == list(range(66))


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ([("max", 58), ("mini", 7)], "1 would run on no stage"),
        ([("max", 58), ("other", 8)], "no node 'other'"),
        ([("max", 66), ("mini", 0)], "at least 1"),
    ],
)
def test_a_placement_that_is_none_is_refused(placement: list[tuple[str, int]], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        predict(seed(), placement)


def test_stages_without_a_link_are_refused_by_name() -> None:
    question = replace(seed(), links=[LinkProfile("max", "mini", 0.003, 0.0)])
    with pytest.raises(PlanError, match="no link from mini to max"):
        predict(question, [("max", 58), ("mini", 8)])
    cost = CostModel(question)
    assert cost.pace([("max", 58), ("mini", 8)], 1, 1).total_s == inf
    assert goal_rate(cost, [("max", 58), ("mini", 8)], "latency") == 0


@pytest.mark.parametrize(
    "changes",
    [{"acceptance": 1.0}, {"acceptance": -0.1}, {"head_room": 1.0}, {"batch": 0}, {"context": 0}, {"prompt": 0}],
)
def test_a_workload_that_is_none_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(PlanError):
        predict(replace(seed(), workload=replace(Workload(), **changes)), [("max", 66)])  # type: ignore[arg-type]


def test_a_profile_without_a_layers_time_is_refused_by_name() -> None:
    with pytest.raises(PlanError, match="max: its profile has no time for a layer"):
        predict(replace(seed(), nodes=[NodeProfile("max", GIB, 0.0, [], [], "test")]), [("max", 66)])
