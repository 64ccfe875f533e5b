"""One engine process, from spawn to exit, as its daemon holds it.

The process gets a pipe as standard input and never a byte more than its boot line: the pipe is the lifeline that
ends the engine when this daemon ends, however it ends. What it writes to standard error goes on to ours, and the
last lines are kept to explain an exit.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
import psutil
import structlog

from nova.clock import monotonic
from nova.config.schema import Engine
from nova.errors import EngineError
from nova.node.watch import Ask, EngineWatch, Kill
from nova.wire.boot import Boot
from nova.wire.messages import EngineState, Heartbeat, Message
from nova.wire.phases import FAILED
from nova.wire.values import EngineKey, EngineSpec

log = structlog.get_logger(__name__)

TAIL_LINES = 20
MAX_LINE_BYTES = 8192
"""A longer line is cut into pieces: a progress bar without an end must not stop us from reading."""

REPORTED = 1
"""Exit status of an engine that has said over its line why it ends."""

LAST_WORDS_S = 1.0
"""That report may be read a moment after the exit is seen: two sources, no order between them."""


class EngineProcess:
    """A spawned engine. `identity` is its address on the engines' socket."""

    def __init__(self, key: EngineKey, spec: EngineSpec, limits: Engine, identity: bytes) -> None:
        self.key = key
        self.spec = spec
        self.identity = identity
        self.watch = EngineWatch(limits, spec, monotonic())
        self.connected = False
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.pid = 0
        self._failure: EngineState | None = None
        self._killed: str | None = None
        self._changed = asyncio.Event()
        self._reported = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def spawn(self, boot: Boot, env: dict[str, str]) -> None:
        """Start the process. Raises OSError when it cannot be started at all, EngineError when it cannot be pinned."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nova.engine",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env=env, start_new_session=True,  # Ctrl-C is for the daemon, which ends its engines in order
        )  # fmt: skip
        self.pid = self._process.pid
        if self._killed is not None:  # between the order to start it and its start
            self._process.kill()
            return
        self._pin(self.watch.limits.cpus)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(boot) + b"\n")

    def on_message(self, message: Message) -> None:
        """Anything came from the engine."""
        beat = message if isinstance(message, Heartbeat) else Heartbeat(0)
        self.watch.on_message(monotonic(), beat.busy_ms / 1000, beat.transfer_ms / 1000)
        if isinstance(message, EngineState):
            self.watch.on_phase(message.phase, monotonic())
            if message.phase == FAILED:
                self._failure = message
                self._reported.set()
        self._changed.set()

    def stop(self) -> None:
        """It has been asked to stop; from now on the clock runs towards SIGTERM and SIGKILL."""
        self.watch.on_stop(monotonic())
        self._changed.set()

    def kill(self, reason: str) -> None:
        """Kill it, or have it killed as soon as it is there. Without effect once it has ended."""
        # Once only: a second signal would collect the status that asyncio waits for.
        if self._killed is not None or (self._process is not None and self._process.returncode is not None):
            return
        self._killed = reason
        if self._process is not None:
            self._process.kill()

    async def supervise(self) -> int:
        """Until the process has ended: act on every verdict of the watch. Returns the exit status."""
        assert self._process is not None
        reader = asyncio.create_task(self._read_log())
        waiter = asyncio.create_task(self._process.wait())
        try:
            while self._killed is None and not waiter.done():
                self._changed.clear()
                changed = asyncio.create_task(self._changed.wait())
                wait_s = max(0.0, self.watch.due() - monotonic())
                await asyncio.wait({waiter, changed}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if not waiter.done():
                    self._act(self.watch.judge(monotonic()))
            status = await waiter
            await asyncio.wait({reader}, timeout=LAST_WORDS_S)
            if status == REPORTED:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._reported.wait(), LAST_WORDS_S)
            return status
        finally:
            reader.cancel()
            waiter.cancel()
            self.kill("its daemon ended")

    def why(self, status: int) -> str:
        """Why it ended, in words: our verdict first, then its own, then the signal or status."""
        if self._killed is not None:
            return f"killed by its daemon: {self._killed}"
        if self._failure is not None:
            return self._failure.detail
        if status < 0:
            return f"killed by {signal_name(-status)}"
        if status == 0:
            return "stopped"
        last = f": {self.tail[-1]}" if self.tail else ""
        return f"exit status {status}{last}"

    @property
    def error(self) -> str:
        return self._failure.error if self._failure is not None else ""

    def _pin(self, cpus: list[int]) -> None:
        if not cpus:
            return
        try:
            psutil.Process(self.pid).cpu_affinity(cpus)
        except (psutil.Error, AttributeError, ValueError) as error:  # it is gone, not on Linux, no such CPU
            self.kill("it could not be pinned")
            raise EngineError(f"engine.cpus: cannot pin the engine to {cpus}: {error}") from error

    def _act(self, verdict: Ask | Kill | None) -> None:
        assert self._process is not None
        if isinstance(verdict, Ask):
            log.warning("engine gets SIGTERM", pid=self.pid, reason=verdict.reason)
            self._process.terminate()
        elif isinstance(verdict, Kill):
            log.warning("engine is killed", pid=self.pid, reason=verdict.reason)
            self.kill(verdict.reason)

    async def _read_log(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in lines(self._process.stderr):
            self.tail.append(line)
            print(line, file=sys.stderr, flush=True)


async def lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of text as they come, however long they are and whatever their bytes; the last needs no end."""
    rest = b""
    while data := await stream.read(MAX_LINE_BYTES):
        *whole, rest = (rest + data).split(b"\n")
        if len(rest) >= MAX_LINE_BYTES:
            whole, rest = [*whole, rest], b""
        for raw in whole:
            yield raw.decode(errors="replace").rstrip()
    if rest:
        yield rest.decode(errors="replace").rstrip()


def signal_name(number: int) -> str:
    """SIGKILL for 9; real-time signals have no name of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
