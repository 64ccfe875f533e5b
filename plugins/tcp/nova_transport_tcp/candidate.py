"""A connection that has not proved itself: the handshake's steps over a socket that does not block."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field

from nova.clock import Deadline, monotonic
from nova.transport.routes import Route
from nova.transport.ticket import Admitted, Handshake, Stranger


@dataclass(eq=False)
class Candidate:
    """`until` is when our patience ends. `rank` and `route` are set when we dialled it."""

    sock: socket.socket
    steps: Handshake
    until: Deadline
    rank: int | None = None
    route: Route | None = None
    since: float = field(default_factory=monotonic)
    connected: bool = False
    heard: bool = False
    """Whether a byte of the other end has come."""
    _need: int = 0
    _got: bytearray = field(default_factory=bytearray)

    def begin(self) -> Admitted | None:
        """The connection stands, or failed to. Raises OSError."""
        if code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
        self.connected = True
        return self._step(None)

    def read(self) -> Admitted | None:
        """Take what has arrived: who the peer is, once it has proved that. Raises Stranger or OSError."""
        data = self.sock.recv(self._need - len(self._got))
        if not data:
            raise ConnectionError("it closed the connection before it proved itself")
        self.heard = True
        self._got += data
        if len(self._got) < self._need:
            return None
        data, self._got = bytes(self._got), bytearray()
        return self._step(data)

    def silence(self) -> str:
        """Why nothing came, in words that help."""
        if not self.connected:
            return "no answer to the dial: a firewall, or a route that leads elsewhere"
        return "it accepts and stays silent: its process is stopped or stuck" if not self.heard else "it fell silent"

    def _step(self, data: bytes | None) -> Admitted | None:
        """Take the handshake to its next wait, or to its end."""
        try:
            while True:
                out, self._need = self.steps.send(data)  # type: ignore[arg-type]  # None starts a generator
                if out:
                    self._send(out)
                if self._need:
                    return None
                data = b""
        except StopIteration as done:
            who: Admitted = done.value
            return who

    def _send(self, data: bytes) -> None:
        """All at once: a handshake's messages are smaller than any kernel's buffer."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            raise Stranger("it does not read")
