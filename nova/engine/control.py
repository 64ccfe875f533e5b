"""The engine's line to its daemon: one thread, one DEALER socket, and the lifeline.

The thread never computes and never waits for a peer, so it goes on sending heartbeats while the main thread is in
MLX or in a transport. It also watches the lifeline: standard input, whose other end only the daemon holds. When
the daemon dies, however it dies, the line closes and the engine is gone at once: no orphan.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import NoReturn

import structlog
import zmq

from nova.clock import Deadline
from nova.errors import FormingFailed, ProtocolError
from nova.wire import phases
from nova.wire.codec import MAX_BODY_BYTES, decode, encode
from nova.wire.messages import EngineState, Gather, Gathered, Heartbeat, Message, StopEngine
from nova.wire.values import EngineKey

log = structlog.get_logger(__name__)

DAEMON_IS_GONE = 70
"""Exit status of an engine whose daemon died or does not read any more."""

ORPHAN_S = 60.0
"""s; an engine whose control thread had no turn for this long ends by itself. As a rule its daemon ends it earlier; but
a plugin that holds the GIL also holds up the reading of the lifeline, and the daemon may have died meanwhile."""

HEARD_S = 1.0
"""The longest wait for the daemon's answer to a state; as a rule it is a millisecond."""

MAX_ROUNDS = 256
MAX_BLOB_BYTES = 192 << 10
"""Of a plugin's all-gathers in one forming. The cards of two transports fit into a blob, and sixteen blobs into a
message (`nova.wire.codec.MAX_BODY_BYTES`)."""


def end_with_children() -> NoReturn:
    """The daemon is gone, so nobody else would end what a plugin has started."""
    if os.getpgrp() == os.getpid():  # as its daemon started it
        os.killpg(0, signal.SIGKILL)
    os._exit(DAEMON_IS_GONE)


@dataclass
class Transfers:
    """Since when a call of the transport has lasted, in monotonic seconds: one thread sends, another receives.

    A transport need not keep a deadline, nor may one that is broken; so the daemon is told, and ends the engine.
    """

    sending_since: float | None = None
    receiving_since: float | None = None

    def longest_ms(self, now: float) -> int:
        return max(0 if at is None else round((now - at) * 1000) for at in (self.sending_since, self.receiving_since))


class ControlLine:
    """Sends from any thread; what arrives goes to `inbox`, except gathers, which the forming thread awaits."""

    def __init__(self, endpoint: str, identity: bytes, heartbeat_s: float) -> None:
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.busy_since: float | None = None
        """Monotonic seconds at which the compute thread took up its present chunk; it alone writes this."""
        self.transfers = Transfers()
        self.phase = phases.BOOT
        """The last phase that was reported."""
        self._heard = threading.Event()
        self._gathered: queue.SimpleQueue[Gathered | StopEngine] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._waker, self._woken = socket.socketpair()
        self._heartbeat_s = heartbeat_s
        self._sequence = 0
        self._closing = False
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, identity)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BODY_BYTES)
        self._socket.connect(endpoint)
        self._thread = threading.Thread(target=self._run, name="nova-control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, message: Message) -> None:
        """Hand a message to the control thread. What queues here is bounded by one per chunk.

        Does not block, but for a state: the daemon answers it, which is waited for. A plugin may crash in the phase
        that it announces, and then the daemon is to know the phase.
        """
        if isinstance(message, EngineState):
            self.phase = message.phase
            self._heard.clear()
        self._outbox.put(message)
        self._waker.send(b"\0")
        if isinstance(message, EngineState):
            self._heard.wait(HEARD_S)

    def all_gather(self, key: EngineKey, round_: int, blob: bytes, deadline: Deadline) -> list[bytes]:
        """Every rank's blob. Raises FormingFailed at the deadline, at an order to stop, and for what is too much."""
        if round_ > MAX_ROUNDS or len(blob) > MAX_BLOB_BYTES:
            cause = f"round {round_} with {len(blob)} bytes; the limits are {MAX_ROUNDS} rounds, {MAX_BLOB_BYTES} bytes"
            raise FormingFailed("gather", "control plane", key.rank, cause)
        self.send(Gather(key, round_, bytes(blob)))
        while True:
            try:
                answer = self._gathered.get(timeout=deadline.remaining())
            except queue.Empty:
                raise FormingFailed("gather", "control plane", key.rank, f"round {round_} is incomplete") from None
            if isinstance(answer, StopEngine):
                raise FormingFailed("gather", "control plane", key.rank, f"told to stop: {answer.reason}")
            if answer.round == round_:
                return answer.blobs

    def close(self) -> None:
        """Flush what was sent, at most a second, and end the thread."""
        self._closing = True
        self._waker.send(b"\0")
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._woken.fileno(), zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        due = time.monotonic()
        while True:
            ready = dict(poller.poll(max(0, round((due - time.monotonic()) * 1000))))
            if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
                end_with_children()
            if time.monotonic() >= due:
                faulthandler.dump_traceback_later(ORPHAN_S, exit=True)  # its clock is C, and begins anew
                since, now = self.busy_since, time.monotonic()
                busy_ms = 0 if since is None else round((now - since) * 1000)
                transfer_ms = self.transfers.longest_ms(now)
                self._emit(Heartbeat(time.monotonic_ns(), busy_ms=busy_ms, transfer_ms=transfer_ms))
                due = time.monotonic() + self._heartbeat_s
            if self._woken.fileno() in ready:
                self._woken.recv(4096)
                self._drain()
                if self._closing:
                    faulthandler.cancel_dump_traceback_later()
                    self._socket.close()
                    self._context.term()
                    return
            if self._socket in ready:
                self._receive()

    def _drain(self) -> None:
        while True:
            try:
                self._emit(self._outbox.get_nowait())
            except queue.Empty:
                return

    def _emit(self, message: Message) -> None:
        self._sequence += 1
        try:
            self._socket.send_multipart(encode(message, self._sequence), zmq.NOBLOCK)
        except zmq.Again:
            if not isinstance(message, Heartbeat):
                # A thousand messages behind: the daemon has stopped reading, and a token less is a hole in a text.
                log.error("the daemon does not read, the engine ends", kind=type(message).__name__)
                os._exit(DAEMON_IS_GONE)

    def _receive(self) -> None:
        try:
            message, _ = decode(self._socket.recv_multipart(zmq.NOBLOCK))
        except ProtocolError as error:
            log.warning("malformed message from the daemon dropped", error=str(error))
            return
        if isinstance(message, Heartbeat):
            self._heard.set()
            return
        if isinstance(message, Gathered | StopEngine):  # whoever waits for the others need not do so any longer
            self._gathered.put(message)
        if isinstance(message, Gathered):
            return
        self.inbox.put(message)
