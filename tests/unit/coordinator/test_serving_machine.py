"""Whatever happens to requests and their group: memory is never promised twice, and everything ends once."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nova.config.schema import Deployment as Limits
from nova.wire.messages import Begin, Budget, Cancel, Step
from nova.wire.requests import Completed, Failed
from nova.wire.values import KvCost
from tests.unit.coordinator.deployments import GRACE_S, Cluster
from tests.unit.coordinator.test_serving import Desk

KV = (KvCost(100, 1, 2048), KvCost(0, 3, 8192))
"""Room for four requests of one block each on the first stage, by the quarter that is kept for prefixes."""


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        limits = Limits(concurrent=5, queued=4, wait_s=30.0)
        self.desk = Desk(limits, Cluster("ab").serving(kv=KV))
        self.names = 0
        self.kept: dict[str, bool] = {}
        """Each request that was taken in, and whether its client is still there."""

    @property
    def running(self) -> list[int]:
        return list(self.desk.serving._active)

    @rule(prompt=st.integers(1, 30), session=st.integers(1, 3))
    def ask(self, prompt: int, session: int) -> None:
        self.names += 1
        name = f"{session}:{self.names}"
        self.kept[name] = True
        self.desk.ask(name, prompt, session, deadline_s=20.0)

    @rule(session=st.integers(1, 3))
    def hang_up(self, session: int) -> None:
        for name, there in self.kept.items():
            if there and name not in self.ended and name.startswith(f"{session}:"):
                self.kept[name] = False
        self.desk.serving.abandon(session)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), finish=st.sampled_from(["", "stop", "length"]), token=st.sampled_from([65, 66, 999]))
    def step(self, data: st.DataObject, finish: str, token: int) -> None:
        self.desk.token(data.draw(st.sampled_from(self.running)), token, finish=finish)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def cannot_go_on(self, data: st.DataObject) -> None:
        driver = self.desk.cluster.machine.driver
        stream = data.draw(st.sampled_from(self.running))
        self.desk.serving.stepped(driver.node, Step(driver.key, [], failed={stream: "no"}))

    @rule(seconds=st.sampled_from([0.0, 1.0, 21.0]))
    def wait(self, seconds: float) -> None:
        self.desk.advance(seconds)

    @rule()
    def group_is_lost_and_formed_anew(self) -> None:
        machine = self.desk.cluster.machine
        self.desk.cluster.exit(0)
        self.desk.cluster.tick(GRACE_S)
        self.desk.serving.fail_active("node a is lost")
        self.desk.cluster.tick(60.0)
        assert machine.state == "forming"
        self.desk.cluster.all_ready(*KV)
        self.desk.advance(0.0)

    @property
    def ended(self) -> dict[str, int]:
        ends = [message for _, message in self.desk.to_client if isinstance(message, Completed | Failed)]
        return {each.request: sum(other.request == each.request for other in ends) for each in ends}

    @invariant()
    def memory_is_promised_once(self) -> None:
        active = self.desk.serving._active.values()
        for cost in KV:
            assert sum(cost.fixed + cost.per_token * 256 for _ in active) <= cost.budget * 0.75
        assert set(self.desk.serving._memory._held) == set(self.running)

    @invariant()
    def every_request_ends_at_most_once_and_waits_or_runs_until_then(self) -> None:
        assert set(self.ended.values()) <= {1}
        waiting = {request.generate.request for request in self.desk.serving._queue}
        working = {request.generate.request for request in self.desk.serving._active.values()}
        assert waiting | working == {name for name, there in self.kept.items() if there and name not in self.ended}

    @invariant()
    def requests_begin_in_their_order_and_nothing_waits_that_could_begin(self) -> None:
        assert self.desk.begun == sorted(set(self.desk.begun))
        if self.desk.cluster.machine.state == "serving" and self.desk.serving._queue:
            assert len(self.running) == 4

    @invariant()
    def the_driver_has_heard_of_every_end(self) -> None:
        machine = self.desk.cluster.machine
        messages = [message for _, message in self.desk.to_node]
        begun = {m.stream for m in messages if isinstance(m, Begin) and m.engine == machine.driver.key}
        cancelled = {m.stream for m in messages if isinstance(m, Cancel)}
        assert not cancelled & set(self.running)
        assert set(self.running) <= begun
        budgets = [m.engine.generation for m in messages if isinstance(m, Budget)]
        assert budgets == sorted(set(budgets))
        assert not self.running or budgets[-1] == machine.generation

    def teardown(self) -> None:
        self.desk.serving.fail_all("over")
        assert self.desk.serving.busy == (0, 0)
        assert self.desk.serving.kv_usage == {"a": 0.0, "b": 0.0}
        assert all(count == 1 for count in self.ended.values())


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=30)
