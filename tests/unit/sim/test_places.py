"""Placements of a simulation: a plan's one stream has the pace that the plan predicts, and the dead have no stage."""

from __future__ import annotations

from itertools import permutations, repeat

import pytest

from nova.errors import PlanError
from nova.plan.inputs import Layer, ModelFigures, Question, Strategy, Workload
from nova.plan.profiles import PROFILES
from nova.plan.strategies import plan
from nova.sim.load import Ask, Load
from nova.sim.places import emulated, planned
from nova.wire.plans import LinkProfile, NodeProfile
from tests.unit.sim.lines import ran

LAYER = Layer(weight_bytes=1 << 20, read_bytes=1 << 20, flops=1e6, kv_token_bytes=1 << 10)
MODEL = ModelFigures("m", (LAYER,) * 12, 1 << 20, 1 << 20, 1e6, tied=False, hidden_bytes=1 << 14)


def question(strategy: Strategy) -> Question:
    nodes = [
        NodeProfile(name, 1 << 40, 0.001, [(1, ms / 1e3), (8, 2 * ms / 1e3)], [(1, 0.004), (8, 0.006)], "here")
        for name, ms in (("a", 2.0), ("b", 3.0), ("c", 5.0))
    ]
    links = [LinkProfile(one, other, 0.0005, 1e9) for one, other in permutations("abc", 2)]
    return Question(MODEL, nodes, links, Workload(context=64, prompt=1), strategy)


@pytest.mark.parametrize("strategy", ["latency", "memory", "spread"])
def test_one_stream_of_a_plan_has_the_pace_that_it_predicts(strategy: Strategy) -> None:
    asked = question(strategy)
    simulation = ran(planned(asked), Load([Ask(0.0, 1, 30)]))
    tokens = simulation.served[0].tokens
    assert (tokens[-1] - tokens[0]) / 29 == pytest.approx(plan(asked).prediction.token_s)


def test_a_plan_without_the_dead_has_no_stage_on_them() -> None:
    place = planned(question("memory"))
    assert sorted(place(frozenset()).nodes) == ["a", "b", "c"]
    assert sorted(place(frozenset({"b"})).nodes) == ["a", "c"]
    with pytest.raises(PlanError):
        place(frozenset("abc"))


def test_emulated_layers_go_to_those_who_live_as_even_as_can_be() -> None:
    place = emulated(PROFILES["m5dense"], ["x", "y", "z"], 0.001, 1e9)
    whole = place(frozenset({"y"}))
    assert list(whole.nodes) == ["x", "z"]
    assert whole.decode(1) == pytest.approx(list(repeat(0.0382, 2)))
    assert sum(place(frozenset()).decode(4)) == pytest.approx(0.0764 * 1.26)
    assert whole.transfer_s[0] == pytest.approx(16384 / 1e9)
