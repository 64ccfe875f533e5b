"""When a deployment is planned, compared with its plan, and placed anew: on a fake clock, with the real planner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any, Literal, cast

from nova.clock import Deadline
from nova.config.schema import Plan
from nova.coordinator.asked import Wish, configured
from nova.coordinator.deployment import Outbox
from nova.coordinator.observed import STEPS
from nova.coordinator.planner import Planned, Planner
from nova.coordinator.planning import JUDGE_S, MEASURING, Planning
from nova.errors import PlanError
from nova.plan.compare import Measured
from nova.plan.inputs import Question, Workload
from nova.plan.strategies import plan
from nova.wire.messages import Message, StartEngine
from nova.wire.work import ChunkTiming
from tests.unit.coordinator.deployments import Cluster, starts
from tests.unit.plan.questions import links, model, node

LIMIT_S = 10.0
NODES = [node("a", 1.0, gib=30.0), node("b", 2.0, gib=30.0)]
QUESTION = Question(model(40), NODES, links(["a", "b"], 0.1), Workload(head_room=0.0), "latency")
PLANNED = [("a", 29), ("b", 11)]


class Fake:
    """A planner whose nodes answer when they are let."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()
        self.why = ""

    async def plan(self, wish: Wish, running: Measured | None = None) -> Planned:
        self.asked += 1
        await self.go.wait()
        if self.why:
            raise PlanError(self.why)
        return Planned(QUESTION, plan(QUESTION))


class Desk:
    """A cluster of two nodes without a placement, and its planning."""

    def __init__(self, rebalance: Literal["off", "suggest", "auto"] = "suggest") -> None:
        self.cluster = Cluster("ab")
        self.cluster.machine.split = []
        self.planner = Fake()
        self.sent: list[tuple[str, Message]] = []
        settings = Plan(strategy="latency", rebalance=rebalance)
        self.planning = Planning(
            settings, cast(Planner, self.planner), self.cluster.machine, self.act, self.cluster.clock
        )
        self.wish = configured(settings, "m")

    def act(self, outbox: Outbox) -> None:
        """As the coordinator does while no request is worked on."""
        self.sent += outbox
        self.sent += self.cluster.machine.idle(self.cluster.clock())

    async def tick(self, seconds: float = 0.0) -> None:
        """Time passes, and what was begun comes to its end, unless it waits for the nodes."""
        self.sent += self.cluster.tick(seconds)
        self.planning.tick(self.cluster.clock())
        await asyncio.sleep(0)  # a task that has begun asks
        deadline = Deadline.after(LIMIT_S)
        while (task := self.planning._task) is not None and not task.done() and self.planner.go.is_set():
            assert not deadline.expired
            await asyncio.sleep(0.001)
        self.sent += self.cluster.tick()

    async def serving(self) -> None:
        self.planning.begin(self.wish)
        self.cluster.join_all()
        self.planner.go.set()
        await self.tick()
        self.cluster.all_ready()
        assert self.cluster.machine.state == "serving"

    def pass_by(self, **ms: float) -> None:
        """Enough tokens, for which the nodes take so many milliseconds; hops take what is planned."""
        nodes = self.cluster.machine.nodes
        received, hops = 100_000, []
        for name in nodes:
            hops.append((received, 0, round(ms[name] * 1000)))
            received += round(ms[name] * 1e6) + 100_000
        for _ in range(STEPS):
            self.planning.passed(ChunkTiming([(1, 9)], 1, False, 0 + 1, received, hops), [0] * len(nodes))

    @property
    def placed(self) -> list[list[tuple[str, int]]]:
        """(node, layers) of every generation so far."""
        found: dict[int, list[tuple[str, int]]] = {}
        for name, message in self.sent:
            if isinstance(message, StartEngine):
                layers = message.spec.last_layer - message.spec.first_layer
                found.setdefault(message.engine.generation, []).append((name, layers))
        return [sorted(each) for each in found.values()]


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario()

    asyncio.run(limited())


def test_nodes_are_measured_when_all_are_here_and_the_group_forms_as_planned() -> None:
    async def scenario() -> None:
        desk = Desk()
        desk.planner.go.set()
        await desk.tick()
        desk.planning.begin(desk.wish)
        await desk.tick()
        assert desk.planner.asked == 0, "nobody is here yet"
        assert desk.cluster.machine.why_not == "waiting for a, b to join"
        desk.cluster.join_all()
        desk.planner.go.clear()
        await desk.tick()
        await desk.tick(1.0)
        assert (desk.planner.asked, desk.cluster.machine.why_not) == (1, MEASURING)
        assert desk.planning.report is None
        desk.planner.go.set()
        await desk.tick()
        assert desk.placed == [PLANNED]
        assert desk.planning.report is not None

    run(scenario)


def test_a_plan_that_fails_is_told_and_tried_again_after_a_pause() -> None:
    async def scenario() -> None:
        desk = Desk()
        desk.planner.go.set()
        desk.planner.why = "node b could not be measured: no such model"
        desk.planning.begin(desk.wish)
        desk.cluster.join_all()
        await desk.tick()
        assert desk.cluster.machine.state == "failed"
        assert desk.cluster.machine.why_not == "no plan for a, b: node b could not be measured: no such model"
        await desk.tick(0.5)
        assert desk.planner.asked == 1
        desk.planner.why = ""
        await desk.tick(0.5)
        assert (desk.planner.asked, desk.placed) == (2, [PLANNED])

    run(scenario)


def test_a_group_that_takes_what_was_planned_is_left_in_peace() -> None:
    async def scenario() -> None:
        desk = Desk("auto")
        await desk.serving()
        desk.pass_by(a=29.5, b=21.8)
        await desk.tick(JUDGE_S)
        assert (desk.planning.deviations, len(desk.placed)) == ([], 1)

    run(scenario)


def test_a_better_placement_is_suggested_and_not_taken() -> None:
    async def scenario() -> None:
        desk = Desk("suggest")
        await desk.serving()
        desk.pass_by(a=116.0, b=22.0)
        await desk.tick()
        slow, advice = desk.planning.deviations
        assert "the stage on a takes 116.00 ms" in slow
        assert "more tokens per second" in advice
        assert (len(desk.placed), desk.cluster.machine.state) == (1, "serving")

    run(scenario)


def test_without_rebalancing_only_the_deviation_is_told() -> None:
    async def scenario() -> None:
        desk = Desk("off")
        await desk.serving()
        desk.pass_by(a=116.0, b=22.0)
        await desk.tick()
        (slow,) = desk.planning.deviations
        assert "the stage on a" in slow

    run(scenario)


def test_a_better_placement_is_taken_between_requests_and_then_met() -> None:
    async def scenario() -> None:
        desk = Desk("auto")
        await desk.serving()
        desk.pass_by(a=116.0, b=22.0)
        await desk.tick()
        await desk.tick()
        assert desk.placed == [PLANNED, [("a", 11), ("b", 29)]]
        assert "more tokens per second" in desk.cluster.machine.reasons[-1]
        desk.cluster.all_ready()
        desk.pass_by(a=44.0, b=58.0)
        await desk.tick(JUDGE_S)
        assert (desk.planning.deviations, len(desk.placed)) == ([], 2)

    run(scenario)


def test_nodes_that_change_their_pace_all_the_time_are_placed_anew_less_and_less_often() -> None:
    async def scenario() -> None:
        desk = Desk("auto")
        await desk.serving()
        moved_at: list[float] = []
        for _ in range(60):
            slow = max(desk.cluster.machine.nodes, key=lambda each: dict(desk.placed[-1])[each])
            times = {each: 200.0 if each == slow else 5.0 for each in desk.cluster.machine.nodes}
            desk.pass_by(**times)
            before = len(desk.placed)
            await desk.tick(JUDGE_S)
            await desk.tick()
            if len(desk.placed) > before:
                moved_at.append(desk.cluster.clock())
                desk.cluster.all_ready()
        pauses = [after - before for before, after in pairwise(moved_at)]
        assert 3 <= len(moved_at) <= 7, "60 comparisons would be 60 without pauses that double"
        assert min(pauses) >= JUDGE_S
        assert pauses == sorted(pauses)

    run(scenario)


def test_a_placement_that_does_not_come_to_serve_gives_way_to_the_one_before() -> None:
    async def scenario() -> None:
        desk = Desk("auto")
        await desk.serving()
        desk.pass_by(a=116.0, b=22.0)
        await desk.tick()
        await desk.tick()
        assert desk.cluster.machine.state == "forming"
        desk.cluster.exit(1, "ModelError", "not enough memory")
        assert desk.cluster.machine.state == "failed"
        await desk.tick(0.5)
        await desk.tick(0.5)
        assert desk.placed[-1] == PLANNED
        desk.cluster.all_ready()
        assert desk.cluster.machine.state == "serving"

    run(scenario)


def test_nothing_is_compared_where_nothing_was_planned() -> None:
    async def scenario() -> None:
        desk = Desk("auto")
        desk.planner.go.set()
        desk.cluster.machine.split = [20, 20]
        desk.cluster.join_all()
        desk.cluster.all_ready()
        desk.pass_by(a=116.0, b=22.0)
        await desk.tick(JUDGE_S)
        assert (desk.planner.asked, desk.planning.deviations, desk.planning.report) == (0, [], None)
        assert starts(desk.sent) == []

    run(scenario)
