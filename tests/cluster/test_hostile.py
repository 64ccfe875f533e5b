"""Hostile transport plugins cost an attempt, or a request, and nothing else: Nova goes on and serves over tcp.

One deployment is told to try one after the other, and tcp last. All the while the status is asked for every POLL_S:
the reply holds the age of each node's last heartbeat at the coordinator, and takes its time itself. The largest age
seen, plus one pause between two polls, bounds the largest gap between two heartbeats; the slowest reply bounds the
time in which the coordinator's loop did not turn.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from nova.clock import monotonic
from nova.control.client import Client
from nova.errors import GenerationError
from nova.ids import new_request_id
from nova.local.cluster import ClusterPlan, LocalCluster, marked, running
from nova.wire.requests import Completed, Generate
from nova.wire.work import Sampling
from tests.support.plugins.hostile.nova_transport_hostile import install, names

pytestmark = pytest.mark.alone

POLL_S = 0.05
GAP_S = 1.0
CLUSTERS = 2
LIMIT_S = 110.0
SETTINGS = [
    "control.heartbeat_s=0.2",
    "control.dead_after_s=1.0",
    "engine.open_s=1.0",
    "engine.join_s=2.0",
    "engine.silent_s=1.5",
    "engine.stop_s=0.5",
    "engine.transfer_s=1.0",
    "transport.hold_s=600",
    "transport.probe_s=2.0",
    "deployment.retry_s=0.05",
]
RANKS = {
    **dict.fromkeys(names("card"), 0),  # whose card is used by the other rank; the last rank's is not
    "h-join-flood": -1,  # an all-gather without end needs them all
}
"""Which rank misbehaves, where it is not the last."""


@dataclass
class Responsiveness:
    """What the polls have seen."""

    gap_s: float = 0.0
    reply_s: float = 0.0
    polls: int = 0

    async def watch(self, client: Client) -> None:
        while True:
            asked = monotonic()
            status = await client.status()
            self.reply_s = max(self.reply_s, monotonic() - asked)
            self.gap_s = max(self.gap_s, *(node.heartbeat_age_s + POLL_S for node in status.nodes))
            assert [node.state for node in status.nodes] == ["up", "up"]
            self.polls += 1
            await asyncio.sleep(POLL_S)


@dataclass
class Siege:
    """A running cluster whose transports are hostile but the last."""

    cluster: LocalCluster
    client: Client
    seen: Responsiveness = field(default_factory=Responsiveness)

    async def ask(self) -> str:
        """The transport over which a request was served. Raises GenerationError."""
        ask = Generate(new_request_id(), "go", 12, Sampling(), deadline_s=LIMIT_S)
        async for event in self.client.generate(ask):
            if isinstance(event, Completed):
                return event.transport
        raise AssertionError("the request ended without an end")

    def left(self) -> list[str]:
        """What engines of the past have left: processes, and ports that anybody listens at."""
        ours = {daemon.pid for daemon in self.cluster.daemons}
        living = marked(self.cluster.folder.name)
        engines = [each for each in living if each.pid not in ours]
        found = [f"process {each.pid} {each.cmdline()}" for each in engines]
        ports = [c.laddr for each in living for c in each.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        control = int(self.cluster.address.rpartition(":")[2])
        return [*found[2:], *(f"port {at}" for at in ports if at.port != control)]

    def descriptors(self) -> list[int]:
        return [psutil.Process(daemon.pid).num_fds() for daemon in self.cluster.daemons]


@asynccontextmanager
async def siege(home: Path, hostile: Sequence[str]) -> AsyncIterator[Siege]:
    """All that holds whatever the plugins do is checked here."""
    ranks = [f"transport.options.{name}.rank={rank}" for name, rank in RANKS.items() if name in hostile]
    settings = [*SETTINGS, *ranks]
    plan = ClusterPlan(2, "emulated:seed", transports=[*hostile, "tcp"], settings=settings)
    async with asyncio.timeout(LIMIT_S), running(plan, home) as cluster, cluster.client() as client:
        one = Siege(cluster, client)
        while [node.state for node in (await client.status()).nodes] != ["up", "up"]:
            await asyncio.sleep(POLL_S)
        before = one.descriptors()
        watching = asyncio.create_task(one.seen.watch(client))
        try:
            yield one
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        assert watching.cancelled(), watching.exception()
        assert one.seen.gap_s < GAP_S
        assert one.seen.reply_s < GAP_S
        assert one.left() == []
        # An engine is a pipe each for its lifeline and its log, its connection, and what asyncio watches it by.
        assert all(now - then <= 6 for now, then in zip(one.descriptors(), before, strict=True))
    assert marked(cluster.folder.name) == []


@pytest.fixture(autouse=True)
def home(nova_home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The plugins are installed; the system's temporary folder is this test's own, and empty at its end."""
    monkeypatch.setenv("PYTHONPATH", install(tmp_path_factory.mktemp("hostile")))
    temporary = tmp_path_factory.mktemp("t")
    monkeypatch.setenv("TMPDIR", str(temporary))
    yield nova_home
    assert list(temporary.iterdir()) == []


async def falls_back(home: Path, hostile: Sequence[str]) -> list[str]:
    """Why each of these was set aside, in order, on the way to a request that tcp serves."""
    async with siege(home, hostile) as one:
        assert await one.ask() == "tcp"
        return (await one.client.status()).reasons


async def at_once(
    test: Callable[[Path, Sequence[str]], Awaitable[list[str]]], home: Path, hostile: Sequence[str]
) -> dict[str, str]:
    """The reason for each, from several clusters with a part of them each: there is much waiting in it."""
    parts = [hostile[start::CLUSTERS] for start in range(CLUSTERS)]
    found = await asyncio.gather(*(test(home, part) for part in parts))
    return {
        name: reason
        for part, reasons in zip(parts, found, strict=True)
        for name, reason in zip(part, reasons, strict=True)
    }


PHASES = {"open": "open", "card": "open|join", "join": "join|verify", "odd": "join|verify", "verify": "verify"}
"""Where a plugin that is hostile in one place is found out: a lie may be believed until the next step."""


@pytest.mark.parametrize("where", PHASES)
def test_while_a_group_is_formed_it_costs_that_attempt_and_the_reason_names_it_and_its_phase(
    where: str, home: Path
) -> None:
    for name, reason in asyncio.run(at_once(falls_back, home, names(where))).items():
        assert f" over {name}: " in reason
        assert re.search(rf"phase ({PHASES[where]})\b", reason), reason


UNAVAILABLE = {
    "h-probe-hang": "did not answer within 2 s",
    "h-probe-hang-gil": "did not answer within 2 s",
    "h-probe-segv": "was killed by SIGSEGV",
    "h-probe-exit": "exited with status 0",
    "h-probe-raise": "raised ValueError: this plugin is hostile",
    "h-probe-log": "was cut off",
    "h-probe-lie": "is no offer of this transport",
}


async def probed(home: Path, hostile: Sequence[str]) -> dict[str, str]:
    """Why each of these is not even tried."""
    async with siege(home, hostile) as one:
        assert await one.ask() == "tcp"
        status = await one.client.status()
        assert status.generation == 1
        return status.rejected


def test_in_its_probe_it_is_not_even_tried(home: Path) -> None:
    rejected = asyncio.run(probed(home, names("probe")))
    for name, why in UNAVAILABLE.items():
        assert why in rejected[name]
    assert set(UNAVAILABLE) == set(names("probe"))


async def breaks_while_serving(home: Path, hostile: Sequence[str]) -> list[str]:
    """Why each of these was set aside, in order; the requests that they lost were told the same."""
    async with siege(home, hostile) as one:
        lost, served = list[str](), ""
        while not served and len(lost) <= len(hostile):
            try:
                served = await one.ask()
            except GenerationError as error:
                lost.append(str(error))
        reasons = (await one.client.status()).reasons
        assert served == "tcp"
        assert lost
        assert all(any(reason in told for reason in reasons) for told in lost)
        return reasons


@pytest.mark.parametrize("where", ["send", "recv"])
def test_while_serving_it_costs_the_requests_of_that_group_and_the_next_one_is_served_over_another(
    where: str, home: Path
) -> None:
    for name, reason in asyncio.run(at_once(breaks_while_serving, home, names(where))).items():
        assert f" over {name}: " in reason
