"""The coordinator's glue: what the deployment decides reaches requests and nodes, and nothing else does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest

from nova.clock import Deadline, FakeClock
from nova.control.hub import Hub
from nova.control.session import Session
from nova.coordinator.links import CHUNKS
from nova.coordinator.service import Coordinator
from nova.coordinator.texts import Texts
from nova.errors import ProtocolError
from nova.wire import phases
from nova.wire.messages import Begin, EngineExited, EngineState, Hello, Message, Offers, Pooled, StartEngine, Step
from nova.wire.requests import Embedded, ExplainQuery, ExplainReply, Failed, Generate, TraceQuery, TraceReply
from nova.wire.values import KvCost, LinkMeasure
from nova.wire.work import ChunkTiming, Outcome, Sampling
from tests.unit.coordinator.deployments import config, offers
from tests.unit.coordinator.test_serving import MODEL

M = TypeVar("M", bound=Message)
LIMIT_S = 5.0


async def until(true: Callable[[], object]) -> None:
    """Other tasks and threads have their turn until then."""
    deadline = Deadline.after(LIMIT_S)
    while not true():
        assert not deadline.expired
        await asyncio.sleep(0.001)


class Peer:
    """A session, as far as the coordinator looks at it."""

    clock_offset_ns = 0

    def __init__(self, id: int, name: str, role: str) -> None:
        self.id, self.name, self.role = id, name, role
        self.hello = Hello(name, role, "1", offers=offers("zmq") if role == "worker" else [])
        self.offers = self.hello.offers


class Desk:
    """A coordinator, two nodes and a client; stands for the hub as well, and keeps what is sent."""

    def __init__(self, home: Path) -> None:
        self.clock = FakeClock(100.0)
        self.sent: list[tuple[int, Message]] = []
        self.too_large = False
        self.sessions: list[Session] = []
        self.counters: dict[str, int] = {}
        self.coordinator = Coordinator(config("ab"), home, "boot", self.clock)
        self.coordinator.hub = cast(Hub, self)
        self.coordinator._texts.settle(MODEL)
        self.coordinator._deployment.split = MODEL.split
        self.peers = {"a": Peer(1, "a", "worker"), "b": Peer(2, "b", "worker"), "client": Peer(3, "client", "client")}
        for peer in self.peers.values():
            self.coordinator.joined(cast(Session, peer))

    def send(self, session_id: int, message: Message) -> None:
        if self.too_large:
            raise ProtocolError("body of 5 MiB, limit is 4 MiB")
        self.sent.append((session_id, message))

    def got(self, kind: type[M]) -> list[M]:
        return [message for _, message in self.sent if isinstance(message, kind)]

    def says(self, name: str, message: Message) -> None:
        self.coordinator.received(cast(Session, self.peers[name]), message)

    def ready(self, group: str, links: bool = False) -> None:
        """The engines of the last generation of this group form."""
        engines = [start.engine for start in self.got(StartEngine) if start.engine.group == group][-2:]
        for key in engines:
            figures = [LinkMeasure(1 - key.rank, 1e-3, 1e9)] if links else []
            self.says("ab"[key.rank], EngineState(key, phases.READY, links=figures))

    async def ask(self, pool: str = "") -> Begin:
        """A request is begun."""
        self.says("client", Generate("r", "hello", 8, Sampling(), deadline_s=100.0, pool=pool))
        await until(lambda: self.got(Begin))
        return self.got(Begin)[-1]


def unsettle(desk: Desk) -> None:
    """As before the model is opened."""
    texts = desk.coordinator._texts
    texts.model, texts.problem, desk.coordinator._deployment.split = None, Texts().problem, []
    texts.settled.clear()


def test_a_trial_that_ends_takes_no_request_along_however_it_ends(tmp_path: Path) -> None:
    async def scenario(works: bool) -> None:
        desk = Desk(tmp_path)
        desk.ready("main")
        await desk.ask()
        desk.says("b", Offers(offers("tcp", "zmq")))
        desk.says("a", Offers(offers("tcp", "zmq")))
        key = desk.got(StartEngine)[-1].engine
        assert key.group == "trial"
        if works:
            desk.ready("trial")
        else:
            desk.says("b", EngineExited(key, 1, False, "refused", phases.JOIN, "FormingFailed"))
        assert desk.got(Failed) == []
        assert desk.coordinator._serving.busy == (1, 0)

    asyncio.run(scenario(works=True))
    asyncio.run(scenario(works=False))


def test_a_group_that_dies_takes_its_requests_along(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.ready("main")
        begin = await desk.ask()
        desk.says("b", EngineExited(begin.engine, 1, False, "killed by SIGKILL", phases.READY))
        (failed,) = desk.got(Failed)
        assert "killed by SIGKILL" in failed.reason

    asyncio.run(scenario())


def test_only_the_drivers_own_node_tells_of_the_links(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.ready("main", links=True)
        begin = await desk.ask()
        late = ChunkTiming([(99, 1)], 1, False, 0, 0, [(0, 0, 0), (10**9, 0, 0)])
        for _ in range(CHUNKS):
            desk.says("a", Step(begin.engine, [], late))
        assert desk.coordinator._deployment.reasons == []
        for _ in range(CHUNKS):
            desk.says("b", Step(begin.engine, [], late))
        assert len(desk.coordinator._deployment.reasons) == 1

    asyncio.run(scenario())


def test_a_message_that_is_too_large_costs_that_message_only(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.too_large = True
    desk.says("client", ExplainQuery("r"))
    desk.too_large = False
    desk.says("client", ExplainQuery("r"))
    assert len(desk.got(ExplainReply)) == 1


def test_a_trace_is_answered_and_so_is_that_there_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.ready("main")
        begin = await desk.ask()
        timing = ChunkTiming([(begin.stream, 4)], 1, False, 10, 20, [(11, 0, 1), (13, 0, 1)])
        desk.says("b", Step(begin.engine, [Outcome(begin.stream, [65], "length")], timing))
        desk.says("client", TraceQuery("q", "r"))
        await until(lambda: desk.got(TraceReply))
        assert desk.got(TraceReply) == [TraceReply("q", "r", ["a", "b"], [0, 0], "zmq", {"r": 1}, [timing])]
        desk.says("client", TraceQuery("p", "other"))
        await until(lambda: desk.got(Failed))
        (failed,) = desk.got(Failed)
        assert (failed.request, failed.code) == ("p", "invalid")

    asyncio.run(scenario())


def test_a_vector_goes_from_the_driver_to_the_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.ready("main")
        begin = await desk.ask(pool="last")
        desk.says("b", Pooled(begin.engine, begin.stream, b"\0\0\x80?"))
        assert desk.got(Embedded) == [Embedded("r", b"\0\0\x80?", 5)]

    asyncio.run(scenario())


def test_what_the_metrics_say_of_this_moment(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        assert b"nova_up 0.0" in desk.coordinator.metrics()
        desk.ready("main")
        await desk.ask()
        assert {b"nova_up 1.0", b"nova_requests_running 1.0"} <= set(desk.coordinator.metrics().splitlines())

    asyncio.run(scenario())


def test_the_status_counts_requests_and_the_memory_that_they_have_reserved(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.counters["sent"] = 7
        for key in [start.engine for start in desk.got(StartEngine)]:
            desk.says("ab"[key.rank], EngineState(key, phases.READY, kv=KvCost(0, 1, 1024) if key.rank else None))
        await desk.ask()  # less than one block of 256 positions
        counters = desk.coordinator.status("s").counters
        assert counters == {"sent": 7, "requests_running": 1, "requests_waiting": 0, "kv_percent:b": 25}

    asyncio.run(scenario())


def test_a_deadline_holds_while_the_model_is_being_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()
    monkeypatch.setattr("nova.coordinator.service.open_model", lambda *_: opened.wait(LIMIT_S))
    monkeypatch.setattr("nova.coordinator.service.TICK_S", 0.001)

    async def scenario() -> None:
        desk = Desk(tmp_path)
        unsettle(desk)
        running = asyncio.create_task(desk.coordinator.run())
        desk.says("client", Generate("r", "hello", 8, Sampling(), deadline_s=1.0))
        await asyncio.sleep(0)
        desk.clock.advance(1.0)
        await until(lambda: desk.got(Failed))
        assert desk.got(Failed)[0].code == "deadline"
        opened.set()
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(scenario())


def test_a_model_that_cannot_be_opened_is_the_answer_to_every_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        unsettle(desk)
        running = asyncio.create_task(desk.coordinator.run())
        desk.says("client", Generate("r", "hello", 8, Sampling(), deadline_s=100.0))
        await until(lambda: desk.got(Failed))
        (failed,) = desk.got(Failed)
        assert failed.code == "unavailable"
        assert "model 'm' not found" in failed.reason
        assert desk.coordinator.why_not == failed.reason
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(scenario())
