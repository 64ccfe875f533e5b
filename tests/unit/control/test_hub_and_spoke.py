"""Real sockets on loopback: admission, death, return, and garbage."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import zmq

from nova.control.hub import Hub
from nova.control.session import Session
from nova.control.spoke import Spoke
from nova.control.zap import TrustList
from nova.errors import ControlError, NodeLost, NovaError, PeerRefused
from nova.wire.codec import MAX_BODY_BYTES, encode
from nova.wire.messages import Cancel, Gather, Hello, Message
from nova.wire.requests import StatusQuery
from nova.wire.values import EngineKey
from tests.unit.control.peers import FAST, LIMIT_S, HubEvents, SpokeEvents, World, run

ENGINE = EngineKey("g", 1, 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_messages_go_both_ways_and_each_side_measures_the_other(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, seen), world.spoke(hub.port, world.admitted("a"), "a") as (spoke, heard, _):
            await heard.until("welcomed")
            session: Session = await seen.until("joined")
            spoke.send(Gather(ENGINE, 1, b"x"))
            assert (await seen.until("received"))[1] == Gather(ENGINE, 1, b"x")
            for stream in range(300):
                hub.send(session.id, Cancel(ENGINE, stream))
            await heard.until("received", 300)
            assert [message.stream for message in heard.of("received")] == list(range(300))
            async with asyncio.timeout(LIMIT_S):
                while session.rtt_s is None:
                    spoke.send(Gather(ENGINE, 1, b"again"))
                    await seen.until("received", len(seen.of("received")) + 1)
                    await asyncio.sleep(0)
            assert 0 <= session.rtt_s < LIMIT_S
            assert session.clock_offset_ns is not None
            assert abs(session.clock_offset_ns) <= session.rtt_s * 1e9 / 2 + 1, "one machine has one clock"
        assert heard.of("lost") == []
        assert [why for _, why in seen.of("left")] == ["said goodbye: it stops"]

    run(main())


def test_a_stranger_is_refused_told_why_and_admitted_once_trusted(world: World) -> None:
    async def main() -> None:
        pair = world.store.new("a")
        async with world.hub() as (hub, seen), world.spoke(hub.port, pair, "a") as (spoke, heard, _):
            why = await heard.until("lost")
            assert "refused our key" in why
            assert "nova keys trust" in why
            assert isinstance(spoke.error, PeerRefused)
            with pytest.raises(NodeLost, match="refused our key"):
                spoke.send(StatusQuery("1"))
            assert seen.log == []
            world.store.trust("a", pair.public)
            await heard.until("welcomed")
            assert hub.counters["refused_keys"] >= 1

    run(main())


def test_a_right_key_under_a_false_name_is_refused_for_good(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, seen), world.spoke(hub.port, world.admitted("a"), "b") as (_, heard, running):
            with pytest.raises(PeerRefused, match="trusted here as 'a', not as 'b'"):
                await asyncio.wait_for(running, LIMIT_S)
            assert len(heard.of("lost")) == 1
            assert seen.log == []

    run(main())


def test_a_coordinator_with_another_key_is_not_mistaken_for_silence(world: World) -> None:
    async def main() -> None:
        other = zmq.curve_keypair()[0].decode()
        async with (
            world.hub() as (hub, _),
            world.spoke(hub.port, world.admitted("a"), "a", server_key=other) as (_, heard, _),
        ):
            assert "another key than the one trusted here" in await heard.until("lost")

    run(main())


def test_a_port_without_coordinator_is_reported_as_such(world: World) -> None:
    async def main() -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            async with world.spoke(held.getsockname()[1], world.admitted("a"), "a") as (_, heard, _):
                assert "does not answer (connection refused" in await heard.until("lost")
                await heard.until("lost", 3)

    run(main())


def test_an_address_that_cannot_be_dialled_is_a_control_error_that_names_it(world: World) -> None:
    async def main() -> None:
        events = SpokeEvents()
        keys = world.admitted("a")
        spoke = Spoke("my host:29200", world.keys.public, keys, lambda: Hello("a", "worker", "test"), FAST, events)
        with pytest.raises(ControlError, match="'my host:29200'"):
            await spoke.run()
        assert len(events.of("lost")) == 1
        await spoke.close()

    run(main())


def test_a_worker_is_back_by_itself_after_the_coordinator_restarts(world: World) -> None:
    async def main() -> None:
        pair = world.admitted("a")
        async with world.hub() as (hub, _):
            port = hub.port
            spoke_at = world.spoke(port, pair, "a")
            spoke, heard, _ = await spoke_at.__aenter__()
            await heard.until("welcomed")
        try:
            assert "said goodbye" in await heard.until("lost")
            async with world.hub(port) as (again, seen):
                began = time.monotonic()
                session = await seen.until("joined")
                assert time.monotonic() - began < 5 * FAST.reconnect_max_s + 1
                await heard.until("welcomed", 2)
                again.send(session.id, Cancel(ENGINE, 1))
                spoke.send(Gather(ENGINE, 1, b"x"))
                await heard.until("received")
                await seen.until("received")
                assert again.counters["replayed"] == 0
        finally:
            await spoke_at.__aexit__(None, None, None)

    run(main())


_HUB = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from nova.control.hub import Hub
    from nova.control.keys import KeyStore
    from nova.control.zap import TrustList
    from tests.unit.control.peers import FAST, HubEvents

    async def main():
        store = KeyStore(Path(sys.argv[1]))
        hub = Hub("coordinator", "127.0.0.1:0", store.load("coordinator"), TrustList(store), FAST, HubEvents())
        await hub.start()
        print("port", hub.port, flush=True)
        await hub.run()

    asyncio.run(main())
    """
)


def _announced_port(lines: Iterable[str]) -> int:
    return next(int(line.split()[1]) for line in lines if line.startswith("port "))


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_stopped_coordinator_is_noticed_in_time(world: World, blow: signal.Signals) -> None:
    async def main() -> None:
        pair = world.admitted("a")
        command = [sys.executable, "-c", _HUB, str(world.home)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout
                port = await asyncio.to_thread(_announced_port, process.stdout)
                async with world.spoke(port, pair, "a") as (spoke, heard, _):
                    await heard.until("welcomed")
                    began = time.monotonic()
                    process.send_signal(blow)
                    why = await heard.until("lost")
                    # Half as much again, for a machine that is busy with other tests.
                    assert time.monotonic() - began < FAST.dead_after_s * 1.5
                    assert ("closed the connection" if blow == signal.SIGKILL else "is silent for") in why
                    with pytest.raises(NodeLost):
                        spoke.send(StatusQuery("1"))
            finally:
                process.kill()

    run(main())


def test_a_worker_that_vanishes_is_noticed_and_named(world: World) -> None:
    async def main() -> None:
        pair = world.admitted("a")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        async with world.hub() as (hub, seen):
            dealer = world.dealer(context, hub.port, pair)
            dealer.send_multipart(encode(Hello("a", "worker", "test"), 1))
            session = await seen.until("joined")
            began = time.monotonic()
            dealer.close(0)
            _, why = await seen.until("left")
            assert time.monotonic() - began < FAST.dead_after_s * 1.5
            assert why
            with pytest.raises(NodeLost, match="worker 'a' is gone"):
                hub.send(session.id, Cancel(ENGINE, 1))
        context.term()

    run(main())


def test_a_second_daemon_with_the_same_key_takes_over_and_the_first_ends(world: World) -> None:
    async def main() -> None:
        pair = world.admitted("a")
        async with world.hub() as (hub, seen), world.spoke(hub.port, pair, "a") as (_, first, ended):
            await first.until("welcomed")
            async with world.spoke(hub.port, pair, "a") as (_, second, _):
                await second.until("welcomed")
                with pytest.raises(PeerRefused, match="newer connection"):
                    await asyncio.wait_for(ended, LIMIT_S)
                assert [s.id for s in hub.sessions] == [seen.of("joined")[1].id]

    run(main())


def test_garbage_from_a_trusted_key_is_counted_while_another_session_goes_on(world: World) -> None:
    async def main() -> None:
        bad_pair, good_pair = world.admitted("bad"), world.admitted("good")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        async with world.hub() as (hub, seen), world.spoke(hub.port, good_pair, "good") as (spoke, heard, _):
            await heard.until("welcomed")
            bad = world.dealer(context, hub.port, bad_pair)
            bad.send_multipart(encode(Hello("bad", "worker", "test"), 1))
            await seen.until("joined", 2)
            head, body = encode(Gather(ENGINE, 1, b"bad"), 2)
            rounds = 400
            for number in range(rounds):
                bad.send_multipart([b"NV\x01", bytes(number % 50)])  # truncated head
                bad.send_multipart([head, body[: number % len(body)]])  # truncated body
                bad.send_multipart([head, body, b"more"])  # a frame too many
                bad.send_multipart(encode(StatusQuery("1"), 1))  # replayed number
                bad.send(b"")
                if number % 200 == 0:
                    bad.send_multipart([head, bytes(MAX_BODY_BYTES + 1)])
                if number % 10 == 0:
                    spoke.send(Gather(ENGINE, number, b"good"))
                    await asyncio.sleep(0)
            bad.send_multipart(encode(Gather(ENGINE, 1, b"last"), 2))
            good = rounds // 10
            await seen.until("received", good + 1, seconds=2 * LIMIT_S)
            assert hub.counters["malformed"] == 4 * rounds
            assert hub.counters["replayed"] == rounds
            assert hub.counters["oversized"] == 2
            streams = [message.round for session, message in seen.of("received") if session.name == "good"]
            assert streams == list(range(0, rounds, 10))
            assert heard.of("lost") == []
            assert len(hub.sessions) == 2, "even the offender keeps its session"
            bad.close(0)
        context.term()

    run(main())


def test_a_frame_beyond_the_sockets_limit_cuts_only_its_sender(world: World) -> None:
    async def main() -> None:
        bad_pair, good_pair = world.admitted("bad"), world.admitted("good")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        async with world.hub() as (hub, seen), world.spoke(hub.port, good_pair, "good") as (_, heard, _):
            await heard.until("welcomed")
            bad = world.dealer(context, hub.port, bad_pair)
            bad.send_multipart(encode(Hello("bad", "worker", "test"), 1))
            await seen.until("joined", 2)
            bad.send(bytes(2 * MAX_BODY_BYTES))
            session, _ = await seen.until("left")
            assert session.name == "bad"
            assert heard.of("lost") == []
            bad.close(0)
        context.term()

    run(main())


def test_a_handler_that_raises_a_nova_error_ends_nothing(world: World) -> None:
    async def main() -> None:
        def fails(session: Session, message: Message) -> None:
            raise NovaError("cannot do that")

        async with world.hub() as (hub, seen), world.spoke(hub.port, world.admitted("a"), "a") as (spoke, heard, _):
            seen.on_message = fails
            await heard.until("welcomed")
            for _ in range(3):
                spoke.send(Gather(ENGINE, 1, b"x"))
            await seen.until("received", 3)
            async with asyncio.timeout(LIMIT_S):
                while hub.counters["handler_errors"] < 3:
                    await asyncio.sleep(0)

    run(main())


def test_a_bug_in_a_handler_surfaces_from_run_and_frees_the_port(world: World) -> None:
    async def main() -> None:
        def bug(session: Session, message: Message) -> None:
            raise ZeroDivisionError

        events = HubEvents()
        events.on_message = bug
        hub = Hub("coordinator", "127.0.0.1:0", world.keys, TrustList(world.store), FAST, events)
        await hub.start()
        running = asyncio.create_task(hub.run())
        async with world.spoke(hub.port, world.admitted("a"), "a") as (spoke, heard, _):
            await heard.until("welcomed")
            spoke.send(Gather(ENGINE, 1, b"x"))
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(running, LIMIT_S)
        async with world.hub(hub.port):
            pass

    run(main())


def test_a_port_in_use_is_a_clear_error(world: World) -> None:
    async def main() -> None:
        async with world.hub() as (hub, events):
            second = Hub("c", f"127.0.0.1:{hub.port}", world.keys, TrustList(world.store), FAST, events)
            with pytest.raises(ControlError, match=r"cannot listen on 127\.0\.0\.1"):
                await second.start()

    run(main())


def test_closing_before_running_leaves_nothing_behind(world: World) -> None:
    async def main() -> None:
        hub = Hub("c", "127.0.0.1:0", world.keys, TrustList(world.store), FAST, HubEvents())
        await hub.close()
        hub = Hub("c", "127.0.0.1:0", world.keys, TrustList(world.store), FAST, HubEvents())
        await hub.start()
        await hub.close()
        await hub.close()

    run(main())
