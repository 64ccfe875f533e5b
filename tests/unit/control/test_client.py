"""The client of the commands against a hub that answers by script."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path

import pytest
import zmq

from nova.clock import Deadline
from nova.control.client import Client
from nova.control.hub import Hub
from nova.control.keys import KeyPair
from nova.control.session import Session
from nova.errors import ControlError, GenerationError, NodeLost, PeerRefused, ProtocolError, RequestTimeout
from nova.wire.codec import MAX_BODY_BYTES
from nova.wire.messages import Cancel, Message
from nova.wire.requests import (
    Abandon,
    Accepted,
    CheckQuery,
    CheckReply,
    Completed,
    Embedded,
    ExplainQuery,
    ExplainReply,
    Failed,
    Generate,
    Piece,
    StatusQuery,
    StatusReply,
    TraceQuery,
    TraceReply,
)
from nova.wire.values import EngineKey
from nova.wire.work import Sampling
from tests.unit.control.peers import FAST, LIMIT_S, HubEvents, World, run


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _ask(request: str, deadline_s: float = LIMIT_S, prompt: str = "hi") -> Generate:
    return Generate(request, prompt, 8, Sampling(), deadline_s=deadline_s)


def _completed(request: str) -> Completed:
    return Completed(request, "stop", 1, 2, 0.1, 1.0, 1.0, "tcp", [], [])


def _status(request: str) -> StatusReply:
    return StatusReply(request, "coordinator", "test", "m", "serving", "tcp", 1, {}, [], [], {})


def _scripted(hub: Hub, events: HubEvents, script: dict[str, list[Message]]) -> None:
    """Answers each request by its id."""

    def answer(session: Session, message: Message) -> None:
        if isinstance(message, StatusQuery):
            hub.send(session.id, _status(message.request))
        elif isinstance(message, ExplainQuery):
            hub.send(session.id, ExplainReply(message.request, "serving", ["a"], "tcp", [], []))
        elif isinstance(message, Generate):
            for reply in script.get(message.request, []):
                hub.send(session.id, reply)

    events.on_message = answer


def _client(
    world: World, port: int, pair: KeyPair | None = None, seconds: float = LIMIT_S
) -> AbstractAsyncContextManager[Client]:
    deadline = Deadline.after(seconds)
    return Client.connect(
        f"127.0.0.1:{port}", world.keys.public, pair or world.admitted("me"), "me", deadline, control=FAST
    )


def test_text_comes_in_order_for_several_requests_at_once(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            script: dict[str, list[Message]] = {
                r: [Accepted(r, 1), *(Piece(r, [n], f"{r}{n}") for n in range(20)), _completed(r)] for r in ("x", "y")
            }
            _scripted(hub, events, script)

            async def collect(request: str) -> list[Message]:
                return [event async for event in client.generate(_ask(request))]

            x, y = await asyncio.gather(collect("x"), collect("y"))
            assert x == script["x"]
            assert y == script["y"]
            assert (await client.status()).state == "serving"
            assert not [m for _, m in events.of("received") if isinstance(m, Abandon)], "nothing was left early"

    run(main())


def test_an_explanation_is_asked_for_and_comes(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            _scripted(hub, events, {})
            assert (await client.explain()).transport == "tcp"
            events.on_message = lambda session, message: hub.send(session.id, _status(message.request))  # type: ignore[attr-defined]
            with pytest.raises(ProtocolError, match="answered ExplainQuery with StatusReply"):
                await client.explain()

    run(main())


def test_a_vector_is_the_end_of_its_request(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            script: list[Message] = [Accepted("x", 1), Embedded("x", b"\0\0\x80?", 1)]
            _scripted(hub, events, {"x": script})
            assert [event async for event in client.generate(_ask("x"))] == script
            assert (await client.status()).state == "serving"
            assert not [m for _, m in events.of("received") if isinstance(m, Abandon)]

    run(main())


def test_a_trace_is_asked_for_and_comes_or_a_refusal(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:

            def answer(session: Session, message: Message) -> None:
                assert isinstance(message, TraceQuery)
                found = TraceReply(message.request, "r7", ["a"], [0], "tcp", {"r7": 1}, [])
                unknown = Failed(message.request, "nothing is kept of request 'r8'")
                hub.send(session.id, unknown if message.target == "r8" else found)

            events.on_message = answer
            assert (await client.trace()).target == "r7"
            with pytest.raises(ControlError, match="nothing is kept of request 'r8'"):
                await client.trace("r8")

    run(main())


def test_a_case_is_asked_for_and_its_end_or_a_refusal_comes(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            answers: dict[str, Message] = {"x": CheckReply("x", []), "y": Failed("y", "b is not here")}

            def answer(session: Session, message: Message) -> None:
                assert isinstance(message, CheckQuery)
                hub.send(session.id, answers[message.request])

            events.on_message = answer
            assert await client.check(CheckQuery("x", "tcp", "T1", ["a"], 1.0), LIMIT_S) == answers["x"]
            with pytest.raises(ControlError, match="b is not here"):
                await client.check(CheckQuery("y", "tcp", "T1", ["b"], 1.0), LIMIT_S)

    run(main())


def test_a_case_that_is_no_longer_waited_for_is_abandoned(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            checking = asyncio.create_task(client.check(CheckQuery("x", "tcp", "T1", ["a"], 1.0), LIMIT_S))
            await events.until("received", 1)
            checking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await checking
            assert (await events.until("received", 2))[1] == Abandon("x")

    run(main())


def test_a_failed_request_raises_its_reason(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            _scripted(hub, events, {"x": [Accepted("x", 1), Failed("x", "node b died")]})
            with pytest.raises(GenerationError, match="node b died"):
                [event async for event in client.generate(_ask("x"))]

    run(main())


def test_leaving_early_abandons_the_request(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            _scripted(hub, events, {"x": [Accepted("x", 1), Piece("x", [1], "a"), Piece("x", [2], "b")]})
            async with aclosing(client.generate(_ask("x"))) as stream:
                async for event in stream:
                    if isinstance(event, Piece):
                        break
            assert (await events.until("received", 2))[1] == Abandon("x")
            assert (await client.status()).state == "serving"

    run(main())


def test_a_request_without_answer_ends_a_grace_after_its_deadline_and_is_abandoned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nova.control.client.GRACE_S", 0.1)

    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            began = time.monotonic()
            with pytest.raises(RequestTimeout, match="no end of the text from the coordinator"):
                [event async for event in client.generate(_ask("x", deadline_s=0.2))]
            with pytest.raises(RequestTimeout, match="no status from the coordinator"):
                await client.status(deadline_s=0.2)
            assert 0.5 <= time.monotonic() - began < 2
            assert Abandon("x") in [message for _, message in events.of("received")]

    run(main())


def test_a_coordinator_that_dies_ends_its_requests_and_names_itself(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events):
            _scripted(hub, events, {"x": [Accepted("x", 1)]})
            async with _client(world, hub.port) as client:
                stream = client.generate(_ask("x"))
                assert await anext(stream) == Accepted("x", 1)
                await hub.close()
                with pytest.raises(NodeLost, match=r"end of the text from the coordinator at 127\.0\.0\.1:\d+ lost"):
                    await anext(stream)
                with pytest.raises(NodeLost):
                    await client.status()

    run(main())


def test_a_client_is_of_use_again_after_the_coordinator_is_back(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, _):
            at = _client(world, hub.port)
            client = await at.__aenter__()
        async with world.hub(hub.port) as (again, events):
            _scripted(again, events, {})
            await events.until("joined")
            async with asyncio.timeout(LIMIT_S):
                while client.spoke.session is None:
                    await asyncio.sleep(0)
            assert (await client.status()).state == "serving"
            await at.__aexit__(None, None, None)

    run(main())


def test_without_a_coordinator_the_deadline_ends_the_attempt_with_the_cause(world: World) -> None:
    async def main() -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            began = time.monotonic()
            with pytest.raises(NodeLost, match=r"127\.0\.0\.1:\d+ does not answer \(connection refused"):
                async with _client(world, held.getsockname()[1], seconds=0.3):
                    pytest.fail("there is nobody")
            assert 0.3 <= time.monotonic() - began < 2

    run(main())


def test_a_port_that_is_open_but_mute_is_reported_too(world: World) -> None:
    async def main() -> None:
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            with pytest.raises(NodeLost, match="does not answer our Hello"):
                async with _client(world, mute.getsockname()[1], seconds=1.0):
                    pytest.fail("there is nobody")

    run(main())


def test_a_key_that_is_not_trusted_is_told_at_once_what_to_do(world: World) -> None:
    async def main() -> None:
        pair = KeyPair(*(part.decode() for part in zmq.curve_keypair()))
        async with world.hub() as (hub, _):
            with pytest.raises(PeerRefused, match="nova keys show"):
                async with _client(world, hub.port, pair=pair, seconds=60):
                    pytest.fail("a stranger came in")

    run(main())


def test_what_cannot_be_asked_is_refused_before_it_is_sent(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            with pytest.raises(ProtocolError, match="limit"):
                [event async for event in client.generate(_ask("x", prompt="x" * (MAX_BODY_BYTES + 1)))]
            stream = client.generate(_ask("y"))
            _scripted(hub, events, {"y": [Accepted("y", 1)]})
            await anext(stream)
            with pytest.raises(ControlError, match="in use"):
                [event async for event in client.generate(_ask("y"))]
            await stream.aclose()

    run(main())


def test_an_answer_to_nobody_and_a_message_not_for_clients_end_nothing(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events), _client(world, hub.port) as client:
            _scripted(hub, events, {})
            session: Session = await events.until("joined")
            hub.send(session.id, Piece("never asked", [1], "a"))
            hub.send(session.id, Cancel(EngineKey("g", 1, 0), 1))
            assert (await client.status()).state == "serving"
            assert client.spoke.counters["handler_errors"] == 1

    run(main())
