"""A lane that is being dialled."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import zmq

from nova.clock import Deadline
from nova.transport.dialling import refusal, way
from nova.transport.routes import Route


@dataclass
class Dial:
    """How far a dialled lane has come on its route. `until` is when our patience ends, None once the peer answered."""

    route: Route
    port: int
    until: Deadline | None
    connected: bool = False

    def silence(self) -> str:
        """Why nothing came, in words that help."""
        if not self.connected:
            return "no answer to the dial: a firewall, or a route that leads elsewhere"
        return "it accepts and stays silent: its process is stopped or stuck" if self.until else "it fell silent"

    def ended(self, event: zmq.Event) -> str:
        """Why the connection ended. ZeroMQ does not say why it closed one that never stood; the kernel may."""
        words = str(event.name).lower().replace("_", " ")
        return words if self.connected else refusal(self.route, self.port) or words


def way_of(fd: int) -> str:
    """As `nova.transport.dialling.way`, for a connection that ZeroMQ holds."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return way(sock)
    except OSError:  # it has ended meanwhile
        return "a connection that has ended"
