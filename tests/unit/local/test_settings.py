"""What a throw-away cluster tells its daemons, as their configuration understands it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.clock import Deadline
from nova.config.load import load
from nova.errors import EngineError
from nova.local.cluster import ClusterPlan, LocalCluster, running, setting
from nova.local.process import DaemonProcess
from nova.node.process import signal_name

PLAN = ClusterPlan(3, "emulated:seed", [20, 30, 16], ["zmq"], ["log.level=debug"], [[], ["engine.stop_s=1"]])


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "\x7f" not in text))
def test_any_text_survives_as_a_setting(text: str) -> None:
    assert load(None, [setting("home", text)]).home == text


@given(st.lists(st.text("ab\"'\\[],=# ", min_size=1), min_size=1, unique=True))
def test_a_list_survives_as_a_setting(order: list[str]) -> None:
    assert load(None, [setting("transport.order", order)]).transport.order == order


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_a_number_survives_as_a_setting(seconds: float) -> None:
    assert load(None, [setting("engine.load_s", seconds)]).engine.load_s == seconds


def test_every_daemon_of_a_plan_gets_a_valid_configuration(tmp_path: Path) -> None:
    cluster = LocalCluster(PLAN, tmp_path)
    cluster.address = "127.0.0.1:4711"
    first, second, third = (load(None, cluster._settings(index)) for index in range(3))
    assert (first.role, second.role, third.role) == ("coordinator", "worker", "worker")
    assert [each.name for each in (first, second, third)] == ["node-1", "node-2", "node-3"]
    assert {each.control.coordinator for each in (first, second, third)} == {"node-1"}
    assert {each.control.address for each in (first, second, third)} == {"127.0.0.1:4711"}
    assert first.deployment.nodes == ["node-1", "node-2", "node-3"]
    assert (first.deployment.split, second.deployment.model) == ([20, 30, 16], "")
    assert [each.engine.stop_s for each in (first, second, third)] == [3.0, 1.0, 3.0]
    assert all(each.log.level == "debug" and each.transport.order == ["zmq"] for each in (first, second, third))


def test_a_daemon_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    async def start() -> None:
        plan = ClusterPlan(1, "emulated:seed", settings=["control.heartbeat_s=9"])
        async with running(plan, tmp_path):
            raise AssertionError("it cannot have started")

    with pytest.raises(EngineError, match=r"node-1 did not start: .*control\.dead_after_s"):
        asyncio.run(start())
    assert list((tmp_path / "run").iterdir()) == []


def test_how_a_daemon_ended_is_told_in_words(tmp_path: Path) -> None:
    async def kill() -> None:
        settings = [setting("home", str(tmp_path)), "role=coordinator", "control.address=127.0.0.1:0", "name=a"]
        daemon = DaemonProcess("a", tmp_path, [*settings, "control.coordinator=a"], dict(os.environ))
        assert daemon.how_it_ended() is None
        announced = await daemon.start(Deadline.after(30.0))
        assert (announced.name, announced.pid) == ("a", daemon.pid)
        assert daemon.how_it_ended() is None
        daemon.kill()
        assert await daemon.ended() == f"the daemon a (pid {daemon.pid}) was killed by {signal_name(9)}"

    asyncio.run(kill())


def test_the_home_of_a_plan_does_not_take_the_cluster_s_own_keys_from_it(tmp_path: Path) -> None:
    cluster = LocalCluster(ClusterPlan(1, "emulated:seed", settings=["home=/elsewhere"]), tmp_path)
    assert load(None, cluster._settings(0)).home == str(tmp_path)
