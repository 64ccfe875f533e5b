"""A plan from what nodes say, what links are known and what runs; and clients that ask for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from nova.config.schema import Deployment, NodeConfig
from nova.coordinator.asked import Wish, configured
from nova.coordinator.planner import Planner
from nova.coordinator.planning import Planning
from nova.coordinator.questions import AT_ONCE, Questions
from nova.coordinator.survey import Survey
from nova.errors import ModelError, PlanError
from nova.plan.compare import Measured as Times
from nova.plan.inputs import ModelFigures
from nova.wire import phases
from nova.wire.messages import EngineState, Measure, Measured, Message
from nova.wire.requests import Failed, PlanQuery, PlanReply
from tests.unit.coordinator.deployments import Cluster, config, offers
from tests.unit.plan.questions import GIB, model, node

LIMIT_S = 10.0
LAYERS = 9


class Desk:
    """A cluster whose nodes answer at once, with memory for so many layers of 1 GiB each, and whoever asks."""

    def __init__(self, **gib: float) -> None:
        self.cluster = Cluster("".join(gib))
        self.cluster.join_all()
        self.gib = gib
        self.hold = asyncio.Event()
        self.hold.set()
        self.survey = Survey(self.send, lambda node: node)
        self.planner = Planner(self.cluster.machine, self.survey, Path("/home"), self.figures)
        settings = config(list(gib)).plan
        planning = Planning(settings, self.planner, self.cluster.machine, lambda outbox: None, self.cluster.clock)
        own = NodeConfig(name="a", deployment=Deployment(model="m", nodes=list(gib)))
        self.answers: list[tuple[int, Message]] = []
        self.questions = Questions(own, self.planner, planning, self.cluster.machine, self.answer)

    def answer(self, session: int, message: Message) -> None:
        self.answers.append((session, message))

    async def figures(self, name: str, home: Path) -> ModelFigures:
        await self.hold.wait()
        if name != "m":
            raise ModelError(f"model {name!r} not found")
        return model(LAYERS)

    def send(self, name: str, message: Message) -> None:
        assert isinstance(message, Measure)
        pace = 1.0 + "abc".index(name)
        profile = node("", pace, gib=self.gib[name] / 0.9)
        self.survey.measured(name, Measured(message.request, profile))

    def wish(self, strategy: str = "latency") -> Wish:
        base = configured(config("ab").plan, "m")
        return Wish("m", strategy, base.workload, frozenset(), {})  # type: ignore[arg-type]

    async def ask(self, query: PlanQuery, session: int = 7) -> Message:
        before = len(self.answers)
        self.questions.ask(session, query)
        while len(self.answers) == before:
            await asyncio.sleep(0.001)
        whose, message = self.answers[-1]
        assert whose == session
        return message


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario()

    asyncio.run(limited())


def test_a_plan_has_the_nodes_own_names_and_the_links_of_their_offers() -> None:
    async def scenario() -> None:
        desk = Desk(a=6.0, b=9.0)
        planned = await desk.planner.plan(desk.wish())
        assert sum(layers for _, layers in planned.placement) == LAYERS
        assert {name for name, _ in planned.placement} == {"a", "b"}
        assert {(link.sender, link.receiver, link.transport) for link in planned.question.links} == {
            ("a", "b", "tcp"), ("b", "a", "tcp"),
        }  # fmt: skip

    run(scenario)


def test_what_the_present_group_holds_counts_as_free() -> None:
    async def scenario() -> None:
        desk = Desk(a=4.0, b=4.0)
        with pytest.raises(PlanError):
            await desk.planner.plan(desk.wish())
        for rank, engine in desk.cluster.machine.engines.items():
            state = EngineState(engine.key, phases.READY, memory_bytes=(6 + rank) * GIB)
            desk.cluster.machine.engine_state(engine.node, state, desk.cluster.clock())
        planned = await desk.planner.plan(desk.wish())
        assert sum(layers for _, layers in planned.placement) == LAYERS

    run(scenario)


def test_measured_times_count_in_place_of_the_profiles() -> None:
    async def scenario() -> None:
        desk = Desk(a=12.0, b=12.0)
        assert (await desk.planner.plan(desk.wish())).placement == [("a", LAYERS)]
        desk.cluster.all_ready()  # with 2 and 3 layers of a model of 5
        desk.cluster.machine.split = [4, 5]
        slow = Times([0.4, 0.01], [0.0, 0.0])
        assert (await desk.planner.plan(desk.wish(), slow)).placement == [("b", LAYERS)]

    run(scenario)


def test_a_client_gets_its_plan_or_the_reason() -> None:
    async def scenario() -> None:
        desk = Desk(a=12.0, b=12.0)
        reply = await desk.ask(PlanQuery("q", strategy="latency"))
        assert isinstance(reply, PlanReply)
        assert (reply.request, [stage.node for stage in reply.report.stages]) == ("q", ["a"])
        refused = [
            (PlanQuery("q", model="n"), "model 'n' not found"),
            (PlanQuery("q", strategy="best"), "no strategy 'best'"),
            (PlanQuery("q", pinned=["z"]), "z is not here; nodes are a, b"),
            (PlanQuery("q", strategy="manual", manual=[("z", 9)]), "z is not here"),
            (PlanQuery("q", measured=True), "no measured times: generation 1 is being formed"),
            (PlanQuery("q", model="n", measured=True), "what runs is m"),
        ]
        for query, why in refused:
            failed = await desk.ask(query)
            assert isinstance(failed, Failed)
            assert (failed.request, failed.code) == ("q", "invalid")
            assert why in failed.reason

    run(scenario)


def test_a_few_plans_are_made_at_once_and_one_that_nobody_waits_for_is_dropped() -> None:
    async def scenario() -> None:
        desk = Desk(a=12.0, b=12.0)
        desk.hold.clear()
        for index in range(AT_ONCE):
            desk.questions.ask(index, PlanQuery(f"q{index}", strategy="latency"))
        busy = await desk.ask(PlanQuery("more"))
        assert isinstance(busy, Failed)
        assert busy.code == "busy"
        desk.questions.abandon(0)
        while len(desk.questions._running) == AT_ONCE:
            await asyncio.sleep(0.001)
        desk.hold.set()
        while len(desk.answers) < AT_ONCE:
            await asyncio.sleep(0.001)
        assert sorted(session for session, _ in desk.answers) == [1, 2, 3, 7]

    run(scenario)


def test_without_nodes_there_is_nothing_to_plan_with() -> None:
    async def scenario() -> None:
        desk = Desk(a=12.0, b=12.0)
        for name in "ab":
            desk.cluster.machine.node_left(name, "silent", desk.cluster.clock())
        with pytest.raises(PlanError, match="no node that may be planned with is here"):
            await desk.planner.plan(desk.wish())
        desk.cluster.machine.node_joined("b", offers("tcp"), desk.cluster.clock())
        assert (await desk.planner.plan(desk.wish())).placement == [("b", LAYERS)]

    run(scenario)
