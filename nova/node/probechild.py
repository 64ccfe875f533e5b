"""One probe of one transport in a process of its own, from its start to its end, and what to make of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import cast

import msgspec
import structlog

from nova.node.process import signal_name
from nova.throwaway import MAX_REASON_CHARS
from nova.transport.probe import MAX_ANSWER_BYTES, Answer, Request
from nova.wire.values import TransportOffer

log = structlog.get_logger(__name__)

STDIN, STDOUT, STDERR = range(3)
MAX_LOG_BYTES = 1 << 20
"""What a probe may write before it is cut off."""

TAIL_BYTES = 4096
LAST_WORDS_S = 0.5
"""What a process wrote before its end is read at once, unless a process that it left behind holds the pipe."""

END_S = 1.0
"""A killed process is gone in milliseconds, unless its kernel is stuck in a driver."""


async def probe(request: Request) -> Answer:
    """The transport's offer, which may be the reason why there is none, or the option that is wrong."""
    loop = asyncio.get_running_loop()
    try:
        _, child = await loop.subprocess_exec(
            ProbeChild, sys.executable, "-m", "nova.transport.probe", start_new_session=True
        )  # in a process group of its own, which ends as a whole
    except OSError as error:
        return _unavailable(request, f"its probe could not be started: {error}")
    try:
        async with asyncio.timeout(request.limit_s):
            await child.ask(msgspec.json.encode(request) + b"\n")
        return _judge(request, child)
    except TimeoutError:
        return _unavailable(request, f"its probe did not answer within {request.limit_s:g} s{child.last_line()}")
    finally:
        await child.end()
        if child.tail:
            log.debug("a probe wrote", transport=request.name, text=child.tail.decode(errors="replace"))


class ProbeChild(asyncio.SubprocessProtocol):
    """What the loop says of the process. Not `asyncio.subprocess`, whose wait is also one for the end of the pipes."""

    def __init__(self) -> None:
        self.answer = bytearray()
        self.tail = bytearray()
        """The end of what it wrote to standard error, where its standard output goes too."""
        self.written = 0
        self._settled = asyncio.Event()
        self._exited = asyncio.Event()
        self._open = {STDOUT, STDERR}
        self._drained = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None

    @property
    def status(self) -> int | None:
        assert self._transport is not None
        return self._transport.get_returncode()

    @property
    def answered(self) -> bool:
        return self.answer.endswith(b"\n") and len(self.answer) <= MAX_ANSWER_BYTES

    async def ask(self, request: bytes) -> None:
        """Until there is an answer, or there will be none."""
        assert self._transport is not None
        cast("asyncio.WriteTransport", self._transport.get_pipe_transport(STDIN)).write(request)
        await self._settled.wait()
        if self.status is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._drained.wait()

    def last_line(self) -> str:
        lines = self.tail.decode(errors="replace").strip().splitlines()
        return f"; it wrote last: {lines[-1][-MAX_REASON_CHARS:]}" if lines else ""

    async def end(self) -> None:
        """Kill the process and whatever it started, and let go of its pipes. One that does not end is left behind."""
        assert self._transport is not None
        self._kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._exited.wait()
        if self._exited.is_set():
            self._transport.close()
            return
        # Closing the transport would poll for the exit status, which the loop's own waiting for it then misses.
        for fd in (STDIN, STDOUT, STDERR):
            if (pipe := self._transport.get_pipe_transport(fd)) is not None:
                pipe.close()

    def _kill(self) -> None:
        assert self._transport is not None
        # macOS says EPERM of a group of which only zombies are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), signal.SIGKILL)

    # --- from the loop ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)
        if fd == STDOUT:
            self.answer += data
            if self.answer.endswith(b"\n") or len(self.answer) > MAX_ANSWER_BYTES:
                self._settled.set()
            return
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        self.written += len(data)
        if self.written > MAX_LOG_BYTES:
            self._kill()
            self._settled.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open:
            self._drained.set()

    def process_exited(self) -> None:
        self._kill()  # its own children, which may hold the pipes
        self._exited.set()
        self._settled.set()


def _judge(request: Request, child: ProbeChild) -> Answer:
    """What the answer is worth, or why there is none."""
    if child.written > MAX_LOG_BYTES:
        return _unavailable(request, f"its probe wrote more than {MAX_LOG_BYTES >> 10} KiB and was cut off")
    if len(child.answer) > MAX_ANSWER_BYTES:
        return _unavailable(request, f"its probe answered with more than {MAX_ANSWER_BYTES >> 10} KiB")
    if not child.answered:
        status = child.status or 0
        how = f"was killed by {signal_name(-status)}" if status < 0 else f"exited with status {status}"
        return _unavailable(request, f"its probe {how}{child.last_line()}")
    try:
        answer = msgspec.json.decode(child.answer, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _unavailable(request, f"its probe's answer is malformed: {error}")
    if answer.raised:
        return _unavailable(request, f"its probe raised {answer.raised[:MAX_REASON_CHARS]}")
    if not answer.wrong_option and (answer.offer is None or answer.offer.name != request.name):
        return _unavailable(request, "its probe's answer is no offer of this transport")
    return answer


def _unavailable(request: Request, reason: str) -> Answer:
    return Answer(TransportOffer(request.name, unavailable=reason))
