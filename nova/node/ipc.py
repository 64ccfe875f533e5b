"""The daemon's side of the line to its engines: one ROUTER on a Unix socket in a folder that only we can enter.

An engine is known by its routing id, a secret of 16 bytes that the daemon handed it on standard input. Whatever
comes from another id, or does not decode, is counted, logged and dropped. One frame beyond MAX_BODY_BYTES is none of
these: libzmq cuts its sender's connection before anything of the message is handed to us, so nothing is counted.

An engine's state is answered with a heartbeat: it waits for that before it goes on, so that its phase is known
whatever a plugin does in it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns

import psutil
import structlog
import zmq

from nova.control import sockets
from nova.errors import EngineError, ProtocolError
from nova.wire.codec import MAX_BODY_BYTES, decode, encode
from nova.wire.messages import EngineState, Heartbeat, Message

log = structlog.get_logger(__name__)

PREFIX = "nova-ipc-"
BATCH = 64
"""Messages read before the loop's other tasks have their turn."""

IDLE_S = 1.0
"""The longest wait without looking at the socket."""

LOGGED_DROPS = 10
"""Drops logged one by one; afterwards each power of two, so that a flood does not flood the log."""


class EngineLines:
    """Messages to and from engines. `received(identity, message)` is called for every good one, in `run`'s loop.

    `counters` is live: stranger, malformed, replayed.
    """

    def __init__(self, received: Callable[[bytes, Message], None]) -> None:
        self.counters: Counter[str] = Counter()
        self._received = received
        self._sequences: dict[bytes, int] = {}
        self._sent: Counter[bytes] = Counter()
        sweep()
        # In the system's temporary folder because a Unix socket's path is limited to about 100 characters.
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.endpoint = f"ipc://{self._folder}/engines"
        self._ready: sockets.Readiness | None = None  # while `run` runs
        self._context: sockets.Context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BODY_BYTES)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.bind(self.endpoint)

    def scratch(self) -> Path:
        """A folder for one engine's temporary files, to be removed when it has ended, however it did. Its path is
        short, because plugins make Unix sockets there, too."""
        return Path(tempfile.mkdtemp(prefix="", dir=self._folder))

    def admit(self) -> bytes:
        """A fresh identity, from now on listened to."""
        identity = b"E" + secrets.token_bytes(16)
        self._sequences[identity] = 0
        return identity

    def forget(self, identity: bytes) -> None:
        self._sequences.pop(identity, None)
        self._sent.pop(identity, None)

    def send(self, identity: bytes, message: Message) -> None:
        """Raises EngineError when the engine is not, or no longer, connected, or has stopped reading."""
        self._sent[identity] += 1
        try:
            frames = [identity, *encode(message, self._sent[identity])]
            self._socket.send_multipart(frames, zmq.DONTWAIT)
        except zmq.ZMQError as error:
            raise EngineError(f"the engine does not take messages: {error}") from error
        finally:
            if self._ready is not None:
                self._ready.nudge()

    async def run(self) -> None:
        """Reads until `close` or cancelled. A flood at the socket slows this task alone, not the loop."""
        self._ready = ready = sockets.Readiness(self._socket)
        try:
            while not self._socket.closed:
                await (asyncio.sleep(0) if self._read() else ready.wait(IDLE_S))
        finally:
            self._unwatch()

    def close(self) -> None:
        """Ends `run` and removes the socket. Idempotent."""
        self._unwatch()
        self._socket.close()
        self._context.term()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _unwatch(self) -> None:
        """Once only: after the socket is closed, its descriptor's number may be another's."""
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.close()
            ready.nudge()

    def _read(self) -> bool:
        """Reads a batch; True if there may be more."""
        for _ in range(BATCH):
            frames = sockets.receive(self._socket)
            if frames is None:
                return False
            self._take([frame.bytes for frame in frames])
        return True

    def _take(self, frames: list[bytes]) -> None:
        identity, rest = frames[0], frames[1:]
        if identity not in self._sequences:
            self._drop("stranger", f"unknown identity of {len(identity)} bytes")
            return
        try:
            message, sequence = decode(rest)
        except ProtocolError as error:
            self._drop("malformed", str(error))
            return
        if sequence <= self._sequences[identity]:
            self._drop("replayed", f"sequence {sequence} after {self._sequences[identity]}")
            return
        self._sequences[identity] = sequence
        self._received(identity, message)
        if isinstance(message, EngineState):
            with suppress(EngineError):  # it has ended meanwhile
                self.send(identity, Heartbeat(monotonic_ns()))

    def _drop(self, cause: str, detail: str) -> None:
        self.counters[cause] += 1
        count = self.counters[cause]
        if count <= LOGGED_DROPS or count & (count - 1) == 0:
            log.warning("frame at the engines' socket dropped", cause=cause, detail=detail, count=count)


def sweep() -> None:
    """Remove the folders of daemons that were killed: their names carry the process id."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
