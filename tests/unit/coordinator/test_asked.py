"""A client's wishes over the configuration's, and what cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from nova.config.schema import Deployment, NodeConfig, Plan
from nova.coordinator.asked import MAX_BATCH, MAX_TOKENS, asked, candidates, configured
from nova.errors import PlanError
from nova.plan.inputs import Layer, ModelFigures
from nova.wire.requests import PlanQuery

PLACED = [("a", 3), ("b", 1)]


def config(**plan: Any) -> NodeConfig:
    return NodeConfig(name="a", deployment=Deployment(model="m", nodes=["a", "b", "c"]), plan=Plan(**plan))


def test_what_a_client_leaves_open_is_as_configured() -> None:
    settings = config(strategy="throughput", batch=8, context=100, acceptance=0.5, head_room=0.2, pin=["b"])
    wish = asked(PlanQuery("q"), settings, PLACED)
    assert wish == configured(settings.plan, "m")
    assert (wish.strategy, wish.workload.batch, wish.workload.context, set(wish.pinned)) == (
        "throughput",
        8,
        100,
        {"b"},
    )


def test_what_a_client_says_wins_and_it_may_drop_a_pin() -> None:
    query = PlanQuery("q", "n", "latency", 7, 2, 9, 0.0, excluded=["b"])
    wish = asked(query, config(strategy="throughput", batch=8, pin=["b"], exclude=["c"]), PLACED)
    load = wish.workload
    assert (wish.model, wish.strategy, load.context, load.batch, load.prompt) == ("n", "latency", 7, 2, 9)
    assert (load.acceptance, wish.pinned, wish.manual) == (0.0, frozenset(), ())
    assert wish.excluded == {"b": "excluded by whoever asks", "c": "excluded by plan.exclude"}


def test_manual_is_what_runs_unless_the_client_says_where() -> None:
    assert asked(PlanQuery("q", strategy="manual"), config(), PLACED).manual == tuple(PLACED)
    assert asked(PlanQuery("q", strategy="manual", manual=[("b", 4)]), config(), PLACED).manual == (("b", 4),)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (PlanQuery("q", strategy="best"), "no strategy 'best': it is one of auto"),
        (PlanQuery("q", batch=-1), "a batch of -1"),
        (PlanQuery("q", batch=MAX_BATCH + 1), f"from 1 to {MAX_BATCH}"),
        (PlanQuery("q", context=MAX_TOKENS + 1), "a context of"),
        (PlanQuery("q", prompt=-5), "a prompt of -5"),
        (PlanQuery("q", acceptance=1.0), "an acceptance of 1"),
        (PlanQuery("q", acceptance=float("nan")), "an acceptance of nan"),
        (PlanQuery("q", excluded=["d"]), "d cannot be left out: deployment.nodes has a, b, c"),
    ],
)
def test_what_cannot_be_meant_is_refused(query: PlanQuery, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        asked(query, config(), PLACED)


def test_only_a_plan_leaves_nodes_out() -> None:
    assert candidates(config(exclude=["b"])) == ["a", "b", "c"]
    assert candidates(config(strategy="auto", exclude=["b"])) == ["a", "c"]


@pytest.mark.parametrize(("model", "context"), [(0, 5000), (2048, 2048), (10_000, 5000)])
def test_no_memory_is_planned_for_texts_that_the_model_does_not_take(model: int, context: int) -> None:
    figures = ModelFigures("m", (Layer(1, 1, 0.0, 0),), 0, 0, 0.0, False, 2, model)
    assert configured(Plan(context=5000), "m").question(figures, [], []).workload.context == context
