"""When the network changes, the transports are probed again and the coordinator hears of what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from nova.config.schema import Engine, NodeConfig, Transport
from nova.errors import NodeLost
from nova.node import prober as module
from nova.node.addresses import Resolved
from nova.node.agent import NodeAgent
from nova.node.prober import Prober
from nova.transport.network import Snapshot
from nova.wire.messages import Message, Offers, Welcome
from nova.wire.values import AttachmentOffer, EngineSpec, TransportOffer

Found = asyncio.Queue[list[TransportOffer]]

WAIT_S = 20.0
TURNS = 20
"""Turns of a watch that looks every millisecond: enough to see that it does nothing."""


class Network:
    """Interfaces that change when a test says so; `asked` counts the looks at them."""

    def __init__(self) -> None:
        self.state: Snapshot = frozenset()
        self.asked = 0
        self.unreadable = False
        self.turned = asyncio.Event()

    def __call__(self) -> Snapshot:
        self.asked += 1
        self.turned.set()
        if self.unreadable:
            raise OSError("an interface went away")
        return self.state

    def plug(self, name: str) -> None:
        self.state = self.state | {(name, "169.254.1.1", True)}

    async def turns(self, count: int) -> None:
        until = self.asked + count
        while self.asked < until:
            self.turned.clear()
            await self.turned.wait()


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every probe finds one transport; here are the addresses that each was asked for."""
    calls: list[list[str]] = []

    async def probe_all(config: Transport, resolved: Resolved) -> list[TransportOffer]:
        calls.append(resolved.addresses)
        return [TransportOffer("tcp", version=str(len(calls)))]

    monkeypatch.setattr(module, "probe_all", probe_all)
    return calls


def watching(test: Callable[[Network, Found], Awaitable[None]], *hosts: str) -> None:
    """Run `test` beside a watch, after its first look."""

    async def run() -> None:
        network, found = Network(), Found()
        prober = Prober(Transport(hosts=list(hosts or ["127.0.0.1"])), network)
        async with asyncio.timeout(WAIT_S):
            await prober.look()
            task = asyncio.create_task(prober.watch(found.put_nowait, every_s=0.001))
            try:
                await test(network, found)
            finally:
                task.cancel()

    asyncio.run(run())


def test_a_network_that_stays_as_it_is_is_not_probed_again(probed: list[list[str]]) -> None:
    async def test(network: Network, found: Found) -> None:
        await network.turns(TURNS)
        assert found.empty()
        assert probed == [["127.0.0.1"]]

    watching(test)


def test_a_change_of_the_network_leads_to_one_new_probe(probed: list[list[str]]) -> None:
    async def test(network: Network, found: Found) -> None:
        network.plug("en5")
        offered = await found.get()
        assert offered == [TransportOffer("tcp", version="2")]
        await network.turns(TURNS)
        assert found.empty()
        network.plug("en6")
        assert (await found.get())[0].version == "3"

    watching(test)


def test_interfaces_that_cannot_be_read_for_a_moment_end_nothing(probed: list[list[str]]) -> None:
    async def test(network: Network, found: Found) -> None:
        network.unreadable = True
        await network.turns(TURNS)
        assert found.empty()
        network.unreadable = False
        network.plug("en5")
        await found.get()

    watching(test)


def test_a_change_during_a_probe_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        network, found = Network(), Found()

        async def probe_all(config: Transport, resolved: Resolved) -> list[TransportOffer]:
            network.plug("en5")
            return []

        monkeypatch.setattr(module, "probe_all", probe_all)
        prober = Prober(Transport(), network)
        await prober.look()
        task = asyncio.create_task(prober.watch(found.put_nowait, every_s=0.001))
        async with asyncio.timeout(WAIT_S):
            await found.get()
        task.cancel()

    asyncio.run(run())


def test_a_name_that_did_not_resolve_is_looked_up_again_and_probed_for_once_it_does(
    probed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    troubled, sound = Resolved([], ["mini does not resolve"]), Resolved(["10.0.0.1"], [])
    answers = [troubled, troubled, troubled, sound, sound]

    async def resolve(hosts: list[str]) -> Resolved:
        return answers.pop(0)

    monkeypatch.setattr(module, "resolve", resolve)
    monkeypatch.setattr(module, "RETRY_S", 0.01)

    async def test(network: Network, found: Found) -> None:
        await found.get()
        await network.turns(TURNS)
        assert probed == [[], ["10.0.0.1"]]
        assert answers == []

    watching(test, "mini")


def offered(version: str, *hosts: str, why: str | None = None) -> list[TransportOffer]:
    attachments = [AttachmentOffer("ip4/10.0.0.0/8", host, 1e-6, 1e9) for host in hosts]
    return [TransportOffer("tcp", version=version, attachments=attachments, unavailable=why)]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[NodeAgent]:
    agent = NodeAgent(NodeConfig(name="a", engine=Engine(cpu_blas="off")), tmp_path)
    yield agent
    asyncio.run(agent.close())


def told(agent: NodeAgent) -> list[Message]:
    """From here on there is a session; what is sent in it."""
    sent: list[Message] = []
    agent.send = sent.append
    return sent


WELCOME = Welcome("coordinator", 0.5, 2.0)


def test_hello_has_the_newest_offers(agent: NodeAgent) -> None:
    assert agent.hello().offers == []
    agent.offer(offered("1"))
    agent.offer(offered("2"))
    assert agent.hello().offers[0].version == "2"


def test_the_coordinator_hears_of_offers_that_differ_and_of_no_others(agent: NodeAgent) -> None:
    agent.offer(offered("1"))
    agent.hello()
    sent = told(agent)
    agent.offer(offered("1"))
    assert sent == []
    agent.offer(offered("1", why="its cable is out"))
    assert sent == [Offers([TransportOffer("tcp", version="1", unavailable="its cable is out")])]


def test_offers_that_changed_between_hello_and_welcome_are_told_after_it(agent: NodeAgent) -> None:
    def refuse(message: Message) -> None:
        raise NodeLost("no session yet")

    agent.offer(offered("1"))
    agent.hello()
    agent.send = refuse
    agent.offer(offered("2"))
    sent = told(agent)
    agent.welcomed(WELCOME)
    agent.welcomed(WELCOME)
    assert sent == [Offers(offered("2"))]


def test_an_engine_listens_on_no_address_that_its_node_did_not_offer_for_its_transport(agent: NodeAgent) -> None:
    hosts = ["0.0.0.0", "10.0.0.2", "10.0.0.1", "10.0.0.3"]
    spec = EngineSpec(
        "m", 0, 1, 1, 2, "tcp", {}, b"", 5.0, 5.0, 5.0, 5.0, 5.0, 4, 1024, hosts=hosts, side="zmq", side_hosts=hosts
    )
    agent.offer(offered("1", "10.0.0.1", "10.0.0.2"))
    assert agent._own(spec).hosts == ["10.0.0.2", "10.0.0.1"]
    assert agent._own(spec).side_hosts == []
