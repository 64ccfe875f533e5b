"""Real engine processes: killed, orphaned, mute, and what is said of their ends."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from nova.clock import monotonic
from nova.config.schema import Control, Engine, NodeConfig
from nova.engine.control import DAEMON_IS_GONE
from nova.errors import EngineError
from nova.node.agent import NodeAgent
from nova.node.enginelog import MAX_LINE_BYTES, TAIL_LINES, lines
from nova.node.ipc import EngineLines
from nova.node.process import EngineProcess, signal_name
from nova.wire.boot import Boot
from nova.wire.messages import Heartbeat, Message
from nova.wire.values import EngineKey, EngineSpec

WAIT_S = 30.0
KEY = EngineKey("main", 1, 0)
SPEC = EngineSpec("m", 0, 1, 1, 1, "none", {}, b"", 5.0, 5.0, 5.0, 5.0, 5.0, 4, 1024)


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Nursery:
    """A daemon's socket, and one engine that is spawned on it."""

    def __init__(self, limits: Engine) -> None:
        self.heard = asyncio.Event()
        self.lines = EngineLines(self._received)
        self.engine = EngineProcess(KEY, SPEC, limits, self.lines.admit())

    def _received(self, identity: bytes, message: Message) -> None:
        self.engine.on_message(message)
        self.heard.set()

    async def spawn(self, endpoint: str = "") -> None:
        boot = Boot(
            endpoint or self.lines.endpoint, self.engine.identity.hex(), 0.5, "", "a", "main.1/0", "info", "text"
        )
        await self.engine.spawn(boot, dict(os.environ))


def life(test: Callable[[Nursery], Awaitable[None]], limits: Engine | None = None) -> None:
    """Run `test` beside the daemon's socket, for a bounded time."""

    async def run() -> None:
        async with nursery(limits or Engine()) as one, asyncio.timeout(WAIT_S):
            await test(one)

    asyncio.run(run())


@asynccontextmanager
async def nursery(limits: Engine) -> AsyncIterator[Nursery]:
    one = Nursery(limits)
    listening = asyncio.create_task(one.lines.run())
    try:
        yield one
    finally:
        one.engine.kill("the test is over")
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        one.lines.close()


def test_an_engine_that_is_killed_has_the_signal_in_its_reason() -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        ending = asyncio.create_task(one.engine.supervise())
        await one.heard.wait()
        os.kill(one.engine.pid, signal.SIGKILL)
        assert one.engine.why(await ending) == "killed by SIGKILL"

    life(test)


def test_an_engine_whose_daemon_is_gone_ends_by_itself_within_a_second() -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        ending = asyncio.create_task(one.engine.supervise())
        await one.heard.wait()
        closed = monotonic()
        one.engine._lifeline.close()
        assert await ending == DAEMON_IS_GONE
        assert monotonic() - closed < 1.0

    life(test)


def test_an_engine_that_never_says_a_word_is_killed_after_start_s() -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        os.kill(one.engine.pid, signal.SIGSTOP)
        reason = one.engine.why(await one.engine.supervise())
        assert reason == "killed by its daemon: no message within 0.3 s of its start"

    life(test, Engine(start_s=0.3))


def test_an_engine_that_falls_silent_is_killed_and_the_phase_named() -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        ending = asyncio.create_task(one.engine.supervise())
        await one.heard.wait()
        os.kill(one.engine.pid, signal.SIGSTOP)
        assert one.engine.why(await ending) == "killed by its daemon: silent for 1 s in phase boot"

    life(test, Engine(silent_s=1.0))


def test_an_engine_that_is_not_wanted_any_more_before_it_is_there_ends_at_once() -> None:
    async def test(one: Nursery) -> None:
        one.engine.stop()
        one.engine.kill("stopped while it was being started")
        await one.spawn()
        reason = one.engine.why(await one.engine.supervise())
        assert reason == "killed by its daemon: stopped while it was being started"
        assert not one.heard.is_set()

    life(test, Engine(stop_s=60.0))


def test_the_last_line_of_the_log_explains_an_exit() -> None:
    async def test(one: Nursery) -> None:
        await one.spawn(endpoint="nonsense://nowhere")
        status = await one.engine.supervise()
        assert status > 0
        assert "Protocol not supported" in one.engine.why(status)
        assert one.engine.why(status).startswith(f"exit status {status}: ")
        assert 1 < len(one.engine.tail) <= TAIL_LINES

    life(test)


def test_an_engine_that_cannot_be_pinned_is_an_error_and_does_not_run_on() -> None:
    async def test(one: Nursery) -> None:
        with pytest.raises(EngineError, match=r"engine\.cpus: cannot pin the engine to \[99999\]"):
            await one.spawn()
        assert await one.engine.supervise() == -signal.SIGKILL

    life(test, Engine(cpus=[99999]))


def test_signals_have_names_and_those_without_a_number() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(signal.SIGRTMIN + 3 if hasattr(signal, "SIGRTMIN") else 99).startswith("signal ")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"no end", ["no end"]),
        (b"", []),
        (b"\xff\xfe\n", ["\ufffd\ufffd"]),
        (b"\n\nx\r\n", ["", "", "x"]),
    ],
)
def test_a_log_is_read_line_by_line_whatever_its_bytes(data: bytes, expected: list[str]) -> None:
    assert read(data) == expected


def test_a_line_without_an_end_is_cut_and_reading_goes_on() -> None:
    found = read(b"x" * 200_000 + b"\nlast\n")
    assert "".join(found[:-1]) == "x" * 200_000
    assert max(map(len, found)) <= 2 * MAX_LINE_BYTES
    assert found[-1] == "last"


def read(data: bytes) -> list[str]:
    async def collect() -> list[str]:
        stream = asyncio.StreamReader()
        stream.feed_data(data)
        stream.feed_eof()
        return [line async for line in lines(stream)]

    return asyncio.run(collect())


def test_an_engine_that_died_after_its_first_word_does_not_take_the_node_along(tmp_path: Path) -> None:
    async def meet() -> None:
        config = NodeConfig(name="a", control=Control(), engine=Engine(cpu_blas="off"))
        agent = NodeAgent(config, tmp_path)
        try:
            engine = EngineProcess(KEY, SPEC, config.engine, agent._lines.admit())
            agent._engines[engine.identity] = engine
            agent._from_engine(engine.identity, Heartbeat(1))  # nobody is connected under this identity any more
            assert "does not take messages" in engine.why(-9)
        finally:
            await agent.close()

    asyncio.run(meet())
