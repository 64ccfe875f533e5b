"""The engines' socket under attack: everything bad is counted and dropped, a good engine goes on."""

from __future__ import annotations

import asyncio
import os
import random
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from nova.errors import EngineError
from nova.node import ipc
from nova.node.ipc import EngineLines
from nova.wire.codec import MAX_BODY_BYTES, decode, encode
from nova.wire.messages import EngineState, Heartbeat, Message
from nova.wire.values import EngineKey

WAIT_S = 10.0
KEY = EngineKey("main", 1, 0)
BAD = 1000


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sockets' folder is one of this test's, short enough for a Unix socket's path."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Daemon:
    """The daemon's side: what came through, and a way to wait until so many frames were looked at."""

    def __init__(self) -> None:
        self.good: list[tuple[bytes, Message]] = []
        self.lines = EngineLines(lambda identity, message: self.good.append((identity, message)))
        self.context = zmq.asyncio.Context()
        self._taken = 0
        self._more = asyncio.Event()
        self._take, self.lines._take = self.lines._take, self._count  # type: ignore[method-assign]

    def _count(self, frames: list[bytes]) -> None:
        self._take(frames)
        self._taken += 1
        self._more.set()

    async def looked_at(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while self._taken < count:
                await self.another()

    async def another(self) -> None:
        """Until one more frame was looked at."""
        self._more.clear()
        await self._more.wait()

    def dealer(self, identity: bytes) -> zmq.asyncio.Socket:
        dealer = self.context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.IDENTITY, identity)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.connect(self.lines.endpoint)
        return dealer


@asynccontextmanager
async def daemon() -> AsyncIterator[Daemon]:
    one = Daemon()
    running = asyncio.create_task(one.lines.run())
    try:
        yield one
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        one.context.destroy(linger=0)
        one.lines.close()


def bad_frames(count: int) -> list[tuple[str, list[bytes]]]:
    """(cause, frames) of malformed and truncated messages and of replays of sequence number 1."""
    chance, found = random.Random(7), list[tuple[str, list[bytes]]]()
    head, body = encode(Heartbeat(12345), 1)
    makers: list[Callable[[], tuple[str, list[bytes]]]] = [
        lambda: ("malformed", [chance.randbytes(chance.randrange(40)) for _ in range(chance.randrange(1, 5))]),
        lambda: ("malformed", [head[: chance.randrange(len(head))], body]),
        lambda: ("malformed", [head, body[: chance.randrange(len(body))]]),
        lambda: ("malformed", [head, body, b""]),
        lambda: ("malformed", [b"NV\x63" + head[3:], body]),
        lambda: ("replayed", [head, body]),
    ]
    for index in range(count):
        found.append(makers[index % len(makers)]())
    return found


def test_a_thousand_bad_frames_are_counted_and_dropped_and_a_good_engine_goes_on() -> None:
    async def attack() -> None:
        async with daemon() as one:
            identity = one.lines.admit()
            engine, stranger = one.dealer(identity), one.dealer(b"E" + bytes(16))
            await engine.send_multipart(encode(Heartbeat(1), 1))
            bad = bad_frames(BAD)
            for _, frames in bad:
                await engine.send_multipart(frames)
            for sequence in range(1, BAD + 1):
                await stranger.send_multipart(encode(Heartbeat(sequence), sequence))
            await engine.send_multipart(encode(Heartbeat(2), 2))
            await one.looked_at(2 * BAD + 2)
            assert one.good == [(identity, Heartbeat(1)), (identity, Heartbeat(2))]
            causes = [cause for cause, _ in bad]
            expected = {cause: causes.count(cause) for cause in set(causes)} | {"stranger": BAD}
            assert dict(one.lines.counters) == expected

    asyncio.run(attack())


FLOOD_S = 1.5
STALL_S = 0.3


def flood(endpoint: str, identity: bytes, frames: list[bytes], stop: threading.Event) -> None:
    """Sends as fast as the daemon takes it; from a thread, because a sender must not share the loop under test."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.IDENTITY, identity)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.SNDTIMEO, 50)
        dealer.connect(endpoint)
        while not stop.is_set():
            with suppress(zmq.Again):
                dealer.send_multipart(frames)


def test_a_sustained_flood_does_not_stall_the_loop_and_a_good_engine_is_heard() -> None:
    async def attack() -> None:
        async with daemon() as one:
            identity, broken = one.lines.admit(), one.lines.admit()
            engine, stop = one.dealer(identity), threading.Event()
            floods = [
                asyncio.create_task(asyncio.to_thread(flood, one.lines.endpoint, sender, frames, stop))
                for sender, frames in ((b"E" + bytes(16), encode(Heartbeat(1), 1)), (broken, [b"\xff" * 40]))
            ]
            clock = asyncio.get_running_loop().time
            begun = beat = clock()
            longest, sent = 0.0, 0
            try:
                while beat < begun + FLOOD_S:
                    sent += 1
                    await engine.send_multipart(encode(Heartbeat(sent), sent))
                    await asyncio.sleep(0.01)
                    longest, beat = max(longest, clock() - beat), clock()
                async with asyncio.timeout(WAIT_S):
                    while len(one.good) < sent:
                        await one.another()
            finally:
                stop.set()
                await asyncio.gather(*floods)
            assert longest < STALL_S
            assert [message for _, message in one.good] == [Heartbeat(number) for number in range(1, sent + 1)]
            assert one.lines.counters["stranger"] > BAD
            assert one.lines.counters["malformed"] > BAD

    asyncio.run(attack())


def test_a_frame_over_the_limit_costs_its_sender_the_connection_and_nobody_else_anything() -> None:
    async def attack() -> None:
        async with daemon() as one:
            identity, attacker = one.lines.admit(), one.lines.admit()
            engine, huge = one.dealer(identity), one.dealer(attacker)
            await huge.send_multipart([b"x" * (MAX_BODY_BYTES + 1), b""])
            for sequence in range(1, 101):
                await engine.send_multipart(encode(Heartbeat(sequence), sequence))
            await one.looked_at(100)
            assert [message for _, message in one.good] == [Heartbeat(number) for number in range(1, 101)]
            assert one.lines.counters == {}

    asyncio.run(attack())


def test_an_engine_that_was_forgotten_is_a_stranger() -> None:
    async def forget() -> None:
        async with daemon() as one:
            identity = one.lines.admit()
            engine = one.dealer(identity)
            await engine.send_multipart(encode(Heartbeat(1), 1))
            await one.looked_at(1)
            one.lines.forget(identity)
            await engine.send_multipart(encode(Heartbeat(2), 2))
            await one.looked_at(2)
            assert one.lines.counters == {"stranger": 1}

    asyncio.run(forget())


def test_what_is_sent_arrives_with_a_rising_sequence_and_sending_to_nobody_is_an_engine_error() -> None:
    async def send() -> None:
        async with daemon() as one:
            identity = one.lines.admit()
            with pytest.raises(EngineError, match="does not take messages"):
                one.lines.send(identity, Heartbeat(1))
            engine = one.dealer(identity)
            await engine.send_multipart(encode(Heartbeat(1), 1))
            await one.looked_at(1)
            for number in (5, 6):
                one.lines.send(identity, Heartbeat(number))
            async with asyncio.timeout(WAIT_S):
                arrived = [await engine.recv_multipart() for _ in range(2)]
            assert arrived == [encode(Heartbeat(5), 2), encode(Heartbeat(6), 3)]

    asyncio.run(send())


def test_an_engine_s_state_is_answered_and_nothing_else_is() -> None:
    async def states() -> None:
        async with daemon() as one:
            identity = one.lines.admit()
            engine = one.dealer(identity)
            for sequence, message in enumerate((Heartbeat(1), EngineState(KEY, "open"), EngineState(KEY, "meet")), 1):
                await engine.send_multipart(encode(message, sequence))
            async with asyncio.timeout(WAIT_S):
                answers = [decode(await engine.recv_multipart()) for _ in range(2)]
            assert [(type(message), sequence) for message, sequence in answers] == [(Heartbeat, 1), (Heartbeat, 2)]
            one.lines.send(identity, EngineState(KEY, "last"))
            async with asyncio.timeout(WAIT_S):
                assert decode(await engine.recv_multipart())[0] == EngineState(KEY, "last")

    asyncio.run(states())


def test_closing_ends_the_reader_that_still_waits_and_closing_again_is_fine() -> None:
    async def close() -> None:
        lines = EngineLines(lambda identity, message: None)
        running = asyncio.create_task(lines.run())
        await asyncio.sleep(0)
        lines.close()
        lines.close()
        async with asyncio.timeout(ipc.IDLE_S / 2):
            await running
        with pytest.raises(EngineError, match="does not take messages"):
            lines.send(b"E", Heartbeat(1))

    asyncio.run(close())


def test_only_we_may_enter_the_socket_s_folder_and_it_goes_with_us(folder: Path) -> None:
    async def look() -> None:
        async with daemon():
            (place,) = folder.iterdir()
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert list(folder.iterdir()) == []

    asyncio.run(look())


def test_folders_of_daemons_that_are_gone_are_swept_and_others_are_not(folder: Path) -> None:
    dead, living, other = f"{ipc.PREFIX}{2**22 + 1}-x", f"{ipc.PREFIX}{os.getpid()}-x", f"{ipc.PREFIX}what"
    for name in (dead, living, other):
        (folder / name).mkdir()
    ipc.sweep()
    assert {each.name for each in folder.iterdir()} == {living, other}
