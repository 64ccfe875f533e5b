"""A daemon of a cluster that stays comes back when it has ended, under its name and at its addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from nova.config.load import load
from nova.errors import EngineError
from nova.local import keeper
from nova.local.cluster import ClusterPlan, LocalCluster, marked, running
from nova.local.keeper import keep
from nova.node.process import signal_name

LIMIT_S = 30.0


class Ends:
    """A daemon that ends when it is told to."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def ended(self) -> str:
        await self.end.wait()
        return "the daemon ended"


class Cluster:
    """As much of a LocalCluster as the keeper uses; the first `failures` restarts fail."""

    def __init__(self, nodes: int, failures: int = 0) -> None:
        self.plan = ClusterPlan(nodes, "emulated:seed")
        self.daemons = [Ends() for _ in range(nodes)]
        self.failures = failures
        self.restarted: list[int] = []

    async def restart(self, index: int, deadline: object) -> None:
        self.restarted.append(index)
        if len(self.restarted) <= self.failures:
            raise EngineError("it did not start")
        self.daemons[index] = Ends()


async def kept(cluster: Cluster, enough: Callable[[list[str]], bool]) -> list[str]:
    """What the keeper tells until it is enough."""
    told: list[str] = []
    done = asyncio.Event()

    def tell(line: str) -> None:
        told.append(line)
        if enough(told):
            done.set()

    keeping = asyncio.create_task(keep(cluster, tell))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(LIMIT_S):
            await done.wait()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return told


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "PAUSE_S", 0.001)
    monkeypatch.setattr(keeper, "PAUSE_MAX_S", 0.004)


def test_pauses_grow_while_a_daemon_does_not_last() -> None:
    async def run() -> list[str]:
        cluster = Cluster(1, failures=99)
        cluster.daemons[0].end.set()
        return await kept(cluster, lambda told: len(told) >= 8)

    told = asyncio.run(run())
    pauses = [float(line.rpartition(" in ")[2].removesuffix(" s")) for line in told if "started again" in line]
    assert pauses[:4] == [0.001, 0.002, 0.004, 0.004]
    assert told[1] == "it did not start"


def test_only_the_daemon_that_ended_is_started_again() -> None:
    async def run() -> Cluster:
        cluster = Cluster(3)
        cluster.daemons[1].end.set()
        await kept(cluster, lambda told: bool(told))
        async with asyncio.timeout(LIMIT_S):
            keeping = asyncio.create_task(keep(cluster, lambda line: None))  # type: ignore[arg-type]
            while not cluster.restarted:
                await asyncio.sleep(0.001)
            keeping.cancel()
        return cluster

    assert asyncio.run(run()).restarted == [1]


def test_a_daemon_that_was_killed_is_back_under_its_name_and_nothing_is_left(tmp_path: Path) -> None:
    async def run() -> tuple[list[str], int, int, str]:
        async with running(ClusterPlan(1, "emulated:seed"), tmp_path) as cluster:
            told: list[str] = []
            first, address = cluster.daemons[0], cluster.address
            pid = first.pid
            keeping = asyncio.create_task(keep(cluster, told.append))
            first.kill()
            async with asyncio.timeout(LIMIT_S):
                while cluster.daemons[0] is first or cluster.daemons[0].announcement is None:
                    await asyncio.sleep(0.01)
            keeping.cancel()
            announced = cluster.daemons[0].announcement
            assert announced is not None
            assert (announced.name, announced.address) == ("node-1", address)
            async with cluster.client() as client:  # with the keys that it had
                await client.status()
            return told, pid, announced.pid, cluster.folder.name

    told, before, after, mark = asyncio.run(run())
    assert before != after
    assert told == [f"the daemon node-1 (pid {before}) was killed by {signal_name(9)}; it is started again in 0.001 s"]
    assert marked(mark) == []


def test_the_api_comes_back_at_the_port_that_it_had(tmp_path: Path) -> None:
    cluster = LocalCluster(ClusterPlan(2, "emulated:seed", settings=["api.listen=127.0.0.1:0"]), tmp_path)
    assert load(None, cluster._settings(0)).api.listen == "127.0.0.1:0"
    cluster.api = "https://127.0.0.1:4711"
    assert load(None, cluster._settings(0)).api.listen == "127.0.0.1:4711"
