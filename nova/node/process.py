"""One engine process, from spawn to exit, as its daemon holds it.

The process gets a pipe as standard input and never a byte more than its boot line: the pipe is the lifeline that
ends the engine when this daemon ends, however it ends. It leads a process group of its own, which is killed as a
whole: what a transport plugin starts ends with its engine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from typing import cast

import msgspec
import psutil
import structlog

from nova.clock import monotonic
from nova.config.schema import Engine
from nova.errors import EngineError
from nova.node.enginelog import EngineLog
from nova.node.watch import Ask, EngineWatch, Kill
from nova.wire.boot import Boot
from nova.wire.messages import EngineState, Heartbeat, Message
from nova.wire.phases import FAILED
from nova.wire.values import EngineKey, EngineSpec

log = structlog.get_logger(__name__)

STDIN, STDERR = 0, 2

REPORTED = 1
"""Exit status of an engine that has said over its line why it ends."""

LAST_WORDS_S = 1.0
"""That report may be read a moment after the exit is seen: two sources, no order between them."""

TRACE_S = 0.15
"""What an engine that hangs has to write where it hangs, before it is killed."""

TERM_S = 0.25
"""What SIGTERM may take before SIGKILL follows. It comes first because a process that dies by SIGKILL inside Apple's
RDMA driver can cost the machine a protection domain until it restarts. Its default action needs no turn of the GIL."""

MAX_REASON_CHARS = 4000
"""An engine cuts what it says to less; this holds for one that is broken."""


class _Watcher(asyncio.SubprocessProtocol):
    """What the event loop says of one process.

    Not `asyncio.subprocess`: its `wait` also waits for the end of standard error, which a process that a plugin has
    started can hold open for ever.
    """

    def __init__(self, log: EngineLog, changed: asyncio.Event) -> None:
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        """Standard error has ended."""
        self._log = log
        self._changed = changed
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        pause_s = self._log.feed(cast("bytes", data))
        if pause_s and not self.exited.is_set():
            self._stderr.pause_reading()
            asyncio.get_running_loop().call_later(pause_s, self._resume)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == STDERR:
            self._log.end()
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()
        self._changed.set()
        self._resume()

    def _resume(self) -> None:
        if not self.drained.is_set():
            self._stderr.resume_reading()

    @property
    def _stderr(self) -> asyncio.ReadTransport:
        assert self._transport is not None
        return cast("asyncio.ReadTransport", self._transport.get_pipe_transport(STDERR))


class EngineProcess:
    """A spawned engine. `identity` is its address on the engines' socket."""

    def __init__(self, key: EngineKey, spec: EngineSpec, limits: Engine, identity: bytes) -> None:
        self.key = key
        self.spec = spec
        self.identity = identity
        self.watch = EngineWatch(limits, spec, monotonic())
        self.connected = False
        self.log = EngineLog(f"{key.group}.{key.generation}/{key.rank}")
        self.pid = 0
        self._failure: EngineState | None = None
        self._killed: str | None = None
        self._suspect = False
        self._changed = asyncio.Event()
        self._reported = asyncio.Event()
        self._watcher = _Watcher(self.log, self._changed)
        self._transport: asyncio.SubprocessTransport | None = None

    async def spawn(self, boot: Boot, env: dict[str, str]) -> None:
        """Start the process. Raises OSError when it cannot be started at all, EngineError when it cannot be pinned."""
        self._transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: self._watcher, sys.executable, "-m", "nova.engine",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env=env, start_new_session=True,  # Ctrl-C is for the daemon, which ends its engines in order
        )  # fmt: skip
        self.pid = self._transport.get_pid()
        if self._killed is not None:  # between the order to start it and its start
            self._signal_group()
            return
        self._pin(self.watch.limits.cpus)
        self._lifeline.write(msgspec.json.encode(boot) + b"\n")

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
        if self._killed is None and not self._watcher.exited.is_set():
            self._killed = reason
            self._signal_group()

    async def supervise(self) -> int:
        """Until the process has ended: act on every verdict of the watch. Returns the exit status."""
        assert self._transport is not None
        exited = self._watcher.exited
        try:
            while self._killed is None and not exited.is_set():
                self._changed.clear()
                await _within(self._changed, self.watch.due() - monotonic())
                if not exited.is_set():
                    await self._act(self.watch.judge(monotonic()))
            await exited.wait()
            self._signal_group()  # what it started and left
            status = self._transport.get_returncode()
            assert status is not None
            await _within(self._watcher.drained, LAST_WORDS_S)
            if status == REPORTED:
                await _within(self._reported, LAST_WORDS_S)
            return status
        finally:
            self.kill("its daemon ended")
            if exited.is_set():  # else its close would collect the status, for which the loop itself still waits
                self._transport.close()

    def why(self, status: int) -> str:
        """Why it ended, in words: its own first, then our verdict, then the signal or status."""
        return self._why(status)[:MAX_REASON_CHARS]

    def _why(self, status: int) -> str:
        if self._failure is not None:
            return self._failure.detail
        if self._killed is not None:
            return f"killed by its daemon: {self._killed}"
        if status < 0:
            return f"killed by {signal_name(-status)}"
        if status == 0:
            return "stopped" if self.watch.stop_asked is not None else "it ended without being asked, with status 0"
        last = f": {self.tail[-1]}" if self.tail else ""
        return f"exit status {status}{last}"

    def is_suspect(self, status: int) -> bool:
        """Whether its end speaks against its transport: it crashed, or fell silent, and nobody sent a signal."""
        if self._failure is not None or self.watch.stop_asked is not None:
            return False
        if self._killed is not None:
            return self._suspect
        return -status not in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    @property
    def tail(self) -> deque[str]:
        """The last lines that it wrote to standard error."""
        return self.log.tail

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

    async def _act(self, verdict: Ask | Kill | None) -> None:
        if isinstance(verdict, Ask):
            log.warning("engine gets SIGTERM", pid=self.pid, reason=verdict.reason)
            self._signal(signal.SIGTERM)
        elif isinstance(verdict, Kill):
            log.warning("engine is killed", pid=self.pid, reason=verdict.reason)
            self._signal(signal.SIGUSR1)  # it writes where it hangs, and ends
            self._killed, self._suspect = verdict.reason, verdict.suspect
            await _within(self._watcher.exited, TRACE_S)
            if not self._watcher.exited.is_set():
                self._signal(signal.SIGTERM)
                await _within(self._watcher.exited, TERM_S)
            self._signal_group()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _signal_group(self) -> None:
        """SIGKILL to it and to all that it started. macOS refuses when only the dead are left."""
        if self.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    @property
    def _lifeline(self) -> asyncio.WriteTransport:
        assert self._transport is not None
        return cast("asyncio.WriteTransport", self._transport.get_pipe_transport(STDIN))


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Until the event, but no longer."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), max(0.0, seconds))


def signal_name(number: int) -> str:
    """SIGKILL for 9; real-time signals have no name of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
