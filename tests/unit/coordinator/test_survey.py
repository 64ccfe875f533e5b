"""Nodes are asked what they can do: all of them, one at a time on a machine, and none is waited for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from math import inf, nan
from typing import Any

import msgspec
import pytest

from nova.coordinator import survey as module
from nova.coordinator.survey import Survey
from nova.errors import PlanError
from nova.wire.messages import Measure, Measured, Message
from nova.wire.plans import NodeProfile

LIMIT_S = 5.0
PROFILE = NodeProfile("whatever it calls itself", 1 << 30, 0.0, [(1, 0.01), (2, 0.02)], [(1, 0.0)], "test")


class Nodes:
    """What was asked of whom, and the survey that asks. Nodes share the machine that their first letter names."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Measure]] = []
        self.survey = Survey(self.send, lambda node: node[0])

    def send(self, node: str, message: Message) -> None:
        assert isinstance(message, Measure)
        self.asked.append((node, message))

    def answer(self, node: str, profile: NodeProfile | None = PROFILE, reason: str = "") -> None:
        (request,) = [message.request for name, message in self.asked if name == node]
        self.survey.measured(node, Measured(request, profile, reason))

    @property
    def names(self) -> list[str]:
        return [node for node, _ in self.asked]


def run(scenario: Callable[[Nodes], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario(Nodes())

    asyncio.run(limited())


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_machines_are_measured_together_and_the_nodes_of_one_in_turn() -> None:
    async def scenario(nodes: Nodes) -> None:
        asking = asyncio.create_task(nodes.survey.profiles(["a1", "a2", "b1"], "m"))
        await turns()
        assert nodes.names == ["a1", "b1"]
        nodes.answer("b1")
        await turns()
        assert nodes.names == ["a1", "b1"]
        nodes.answer("a1")
        await turns()
        nodes.answer("a2")
        assert [profile.name for profile in await asking] == ["a1", "a2", "b1"]
        assert {message.model for _, message in nodes.asked} == {"m"}

    run(scenario)


def test_every_node_without_a_profile_is_named_with_its_reason() -> None:
    async def scenario(nodes: Nodes) -> None:
        asking = asyncio.create_task(nodes.survey.profiles(["a", "b", "c"], "m"))
        await turns()
        nodes.answer("a", None, "model 'm' not found")
        nodes.answer("b")
        nodes.survey.node_left("c", "silent for 2 s")
        with pytest.raises(PlanError, match=r"node a .*: model 'm' not found; node c .*: it left: silent for 2 s"):
            await asking

    run(scenario)


@pytest.mark.parametrize(
    "change",
    [
        {"fixed_s": -1.0}, {"fixed_s": nan}, {"bandwidth": inf}, {"memory_bytes": -1}, {"layer_s": []},
        {"layer_s": [(2, 1.0), (1, 1.0)]}, {"layer_s": [(0, 1.0)]}, {"layer_s": [(1, nan)]}, {"head_s": [(1, -1.0)]},
        {"layer_s": [(at + 1, 1.0) for at in range(module.MAX_POINTS + 1)]},
    ],
    ids=str,
)  # fmt: skip
def test_figures_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    async def scenario(nodes: Nodes) -> None:
        asking = asyncio.create_task(nodes.survey.profiles(["a"], "m"))
        await turns()
        nodes.answer("a", msgspec.structs.replace(PROFILE, **change))
        with pytest.raises(PlanError, match=f"node a measured .*{next(iter(change)).split('_')[0]}"):
            await asking

    run(scenario)


def test_an_answer_counts_only_from_the_node_that_was_asked() -> None:
    async def scenario(nodes: Nodes) -> None:
        asking = asyncio.create_task(nodes.survey.profiles(["a"], "m"))
        await turns()
        nodes.survey.measured("b", Measured(nodes.asked[0][1].request, PROFILE))
        nodes.survey.measured("a", Measured("another request", PROFILE))
        await turns()
        assert not asking.done()
        nodes.answer("a")
        nodes.answer("a", None, "twice")
        assert [profile.name for profile in await asking] == ["a"]
        nodes.answer("a")  # nobody waits any more

    run(scenario)


def test_a_node_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.01)

    async def scenario(nodes: Nodes) -> None:
        with pytest.raises(PlanError, match=r"node a could not be measured: no answer within 0\.01 s"):
            await nodes.survey.profiles(["a"], "m")

    run(scenario)
