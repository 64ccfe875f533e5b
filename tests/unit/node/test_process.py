"""Real engine processes: killed, orphaned, mute, and what is said of their ends."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from nova.clock import monotonic
from nova.config.schema import Control, Engine, NodeConfig
from nova.errors import EngineError
from nova.node.agent import NodeAgent
from nova.node.enginelog import TAIL_LINES, WINDOW_LINES, WINDOW_S
from nova.node.ipc import EngineLines
from nova.node.process import LAST_WORDS_S, MAX_REASON_CHARS, EngineProcess, signal_name
from nova.wire.boot import Boot
from nova.wire.messages import EngineState, Heartbeat, Message
from nova.wire.phases import FAILED
from nova.wire.values import EngineKey, EngineSpec

WAIT_S = 30.0
FLOOD_S = 1.0
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
        assert await ending == -signal.SIGKILL
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


LEAVES_A_CHILD = """
import os, subprocess
child = subprocess.Popen(["sleep", "60"], start_new_session={own_session})
os.write(2, f"child {{child.pid}}\\n".encode())
"""
FLOODS = """
import os, threading
def flood():
    while True:
        os.write(2, b"flood\\n" * 1000)
threading.Thread(target=flood, daemon=True).start()
"""
HOLDS_THE_GIL = """
import ctypes, threading
def hold():
    ctypes.PyDLL(None).sleep(60)
threading.Timer(1.5, hold).start()
"""


@pytest.fixture
def engine_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make every engine run this code at its start, as a plugin would later."""

    def does(code: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return does


async def child_of(one: Nursery) -> psutil.Process:
    """The process that the engine has started: it says its number first."""
    await one.heard.wait()
    (said,) = (line for line in one.engine.tail if line.startswith("child "))
    return psutil.Process(int(said.split()[1]))


async def silence(one: Nursery) -> None:
    """Until the engine's heartbeat, one each 0.5 s, has stopped."""
    await one.heard.wait()
    while one.engine.watch.heard is None or monotonic() < one.engine.watch.heard + 0.8:
        await asyncio.sleep(0.05)


def test_what_an_engine_started_ends_with_it(engine_does: Callable[[str], None]) -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        ending = asyncio.create_task(one.engine.supervise())
        child = await child_of(one)
        os.kill(one.engine.pid, signal.SIGKILL)
        assert await ending == -signal.SIGKILL
        assert await asyncio.to_thread(psutil.wait_procs, [child], 5.0) == ([child], [])

    engine_does(LEAVES_A_CHILD.format(own_session=False))
    life(test)


def test_what_an_engine_started_ends_with_its_daemon_too(engine_does: Callable[[str], None]) -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        child = await child_of(one)
        one.engine._lifeline.close()
        assert await asyncio.to_thread(psutil.wait_procs, [child], 5.0) == ([child], [])
        await one.engine.supervise()

    engine_does(LEAVES_A_CHILD.format(own_session=False))
    life(test)


def test_an_engine_that_cannot_see_that_its_daemon_is_gone_ends_all_the_same(
    engine_does: Callable[[str], None],
) -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        ending = asyncio.create_task(one.engine.supervise())
        await silence(one)
        one.engine._lifeline.close()
        assert await ending == 1
        assert any(line.startswith("Timeout (") for line in one.engine.tail), one.engine.tail

    engine_does("import nova.engine.control as c; c.ORPHAN_S = 1.2" + HOLDS_THE_GIL.replace("1.5", "0.6"))
    life(test)


def test_a_process_that_holds_an_engine_s_log_open_does_not_keep_it_from_having_ended(
    engine_does: Callable[[str], None],
) -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        ending = asyncio.create_task(one.engine.supervise())
        child = await child_of(one)
        try:
            os.kill(one.engine.pid, signal.SIGKILL)
            async with asyncio.timeout(2 * LAST_WORDS_S):
                assert await ending == -signal.SIGKILL
        finally:
            child.kill()

    engine_does(LEAVES_A_CHILD.format(own_session=True))
    life(test)


def test_a_flood_in_an_engine_s_log_neither_stalls_the_daemon_nor_fills_its_own_log(
    engine_does: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        ending = asyncio.create_task(one.engine.supervise())
        worst, begun = 0.0, monotonic()
        while (now := monotonic()) < begun + FLOOD_S:
            await asyncio.sleep(0.01)
            worst = max(worst, monotonic() - now)
        assert worst < 0.25, f"the loop stood still for {worst:.2f} s"
        assert one.engine.log.dropped > 10 * WINDOW_LINES
        one.engine.kill("enough")
        await ending
        assert list(one.engine.tail)[-2] == "flood"

    engine_does(FLOODS)
    life(test)
    assert 0 < capsys.readouterr().err.count("flood\n") <= WINDOW_LINES * (FLOOD_S / WINDOW_S + 2)


def test_an_engine_that_hangs_writes_where_before_it_is_killed(engine_does: Callable[[str], None]) -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        reason = one.engine.why(await one.engine.supervise())
        assert reason == "killed by its daemon: silent for 1 s in phase boot"
        assert any("sitecustomize.py" in line and "in hold" in line for line in one.engine.tail), one.engine.tail

    engine_does(HOLDS_THE_GIL)
    life(test, Engine(silent_s=1.0))


def test_sigterm_ends_an_engine_whose_gil_is_held(engine_does: Callable[[str], None]) -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        ending = asyncio.create_task(one.engine.supervise())
        await silence(one)
        one.engine.stop()
        assert one.engine.why(await ending) == "killed by SIGTERM"

    engine_does(HOLDS_THE_GIL)
    life(test, Engine(stop_s=0.2))


def test_an_exit_with_status_0_that_nobody_asked_for_is_a_failure(engine_does: Callable[[str], None]) -> None:
    async def test(one: Nursery) -> None:
        await one.spawn()
        assert one.engine.why(await one.engine.supervise()) == "it ended without being asked, with status 0"

    engine_does("import os; os._exit(0)")
    life(test)


def test_an_engine_s_own_reason_is_cut() -> None:
    engine = EngineProcess(KEY, SPEC, Engine(), b"E")
    engine.on_message(EngineState(KEY, FAILED, detail="x" * 100_000))
    assert engine.why(1) == "x" * MAX_REASON_CHARS


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
