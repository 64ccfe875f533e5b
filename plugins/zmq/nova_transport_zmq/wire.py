"""One ZeroMQ socket, which carries one direction between two ranks, and the monitor that tells of its end.

Sockets never reconnect by themselves: whoever answers next at that address may be another process. A socket is used
by one thread at a time, and so is its monitor: whoever reads or polls it holds `watching`.
"""

from __future__ import annotations

import threading

import zmq
from zmq.utils.monitor import parse_monitor_message

from nova.transport.api import Seat
from nova.transport.dialling import bindable, on_our_link
from nova.transport.routes import Route
from nova.transport.ticket import proof
from nova_transport_zmq.config import ZmqConfig

CHUNK = 1 << 20
"""Bytes of a large part per frame: the copies at both ends then overlap with ZeroMQ's I/O thread."""

NEVER_MS = 24 * 3600 * 1000
"""Pause before ZeroMQ would dial again. Its own word for never, -1, discards what has arrived and was not read."""

LANES = 2
"""Lane 0 carries from the dialler to the listener, lane 1 back."""

_EVENTS = (
    zmq.Event.CONNECTED
    | zmq.Event.DISCONNECTED
    | zmq.Event.CLOSED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)


class Wire:
    """A PAIR socket, listening or dialled over a route. `fd` is the descriptor of the proven connection, -1 before.

    After the join, `gone` says that this connection has ended, and `others` counts the events of other connections.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], config: ZmqConfig) -> None:
        self.socket = context.socket(zmq.PAIR)
        self.fd = -1
        self.gone = False
        self.others = 0
        self.watching = threading.Lock()
        options = {
            zmq.LINGER: 0,
            zmq.SNDHWM: config.queue,
            zmq.RCVHWM: config.queue,
            zmq.MAXMSGSIZE: CHUNK + 64,  # CURVE adds to every frame
            zmq.RECONNECT_IVL: NEVER_MS,
            zmq.HANDSHAKE_IVL: int(config.handshake_s * 1000),
            zmq.BACKLOG: 1024,
            # ZMTP heartbeats would call a peer dead that merely does not read for a while; the kernel's do not.
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: config.keepalive_s,
            zmq.TCP_KEEPALIVE_INTVL: max(1, config.keepalive_s // 3),
            zmq.TCP_KEEPALIVE_CNT: 3,
        }
        for option, value in options.items():
            self.socket.setsockopt(option, value)
        name = f"inproc://monitor-{id(self)}"
        self.socket.monitor(name, int(_EVENTS))
        self.monitor = context.socket(zmq.PAIR)
        self.monitor.setsockopt(zmq.RCVHWM, 0)  # else a flood of strangers' events would block the I/O thread
        self.monitor.connect(name)

    def events(self) -> list[tuple[zmq.Event, int]]:
        """What happened to the socket since the last call: the event and its value, often a descriptor."""
        found = []
        while int(self.monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            message = parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))
            found.append((zmq.Event(message["event"]), message["value"]))
        return found

    def look(self) -> None:
        """Bring `gone` up to date. Strangers that come and go are not the proven connection. Holds `watching`."""
        for event, value in self.events():
            if event == zmq.Event.DISCONNECTED and value == self.fd:
                self.gone = True
            else:
                self.others += 1

    def sweep(self) -> None:
        """Look, unless a blocked call does so itself. Any thread may call this."""
        if self.watching.acquire(blocking=False):
            try:
                self.look()
            finally:
                self.watching.release()

    def guard(self, domain: str, secret: bytes | None) -> None:
        """To be called before `listen`. ZAP is enforced, and once the join's handler is gone nobody is admitted."""
        self.socket.setsockopt_string(zmq.ZAP_DOMAIN, domain)
        self.socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        if secret is None:
            self.socket.setsockopt(zmq.PLAIN_SERVER, 1)
        else:
            self.socket.setsockopt(zmq.CURVE_SERVER, 1)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret)

    def listen(self, host: str) -> int:
        """Listen at one more address, on a free port, which is returned.

        ZeroMQ cannot stop listening without ending the connections that it accepted there, so the port stays open
        as long as the group. What strangers leave at the monitor is for `sweep`.
        """
        self.socket.setsockopt(zmq.IPV6, int(":" in host))
        self.socket.bind(f"tcp://{bracketed(host)}:*")
        return int(self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def dial(self, route: Route, port: int, keys: tuple[bytes, bytes, bytes] | tuple[str, str]) -> None:
        """Connect with (server's key, own key, own secret), or with a name and password; from the route's source.

        On macOS libzmq can bind to the source address only, on Linux to its interface too.
        """
        if len(keys) == 3:
            for option, key in zip((zmq.CURVE_SERVERKEY, zmq.CURVE_PUBLICKEY, zmq.CURVE_SECRETKEY), keys, strict=True):
                self.socket.setsockopt(option, key)
        else:
            for option, word in zip((zmq.PLAIN_USERNAME, zmq.PLAIN_PASSWORD), keys, strict=True):
                self.socket.setsockopt_string(option, word)
        self.socket.setsockopt(zmq.IPV6, int(":" in route.target))
        if interface := bindable(route):
            self.socket.setsockopt_string(zmq.BINDTODEVICE, interface)
        self.socket.connect(f"tcp://{bracketed(route.source)}:0;{bracketed(on_our_link(route))}:{port}")

    def close(self, linger_ms: int = 0) -> None:
        self.socket.monitor(None, 0)
        self.monitor.close(0)
        self.socket.close(linger_ms)


def password(seat: Seat, dialler: int, listener: int, lane: int) -> str:
    """What a dialler shows where there is no CURVE, to keep strangers off a socket that takes one peer."""
    return proof(seat, b"password", bytes([dialler, listener, lane])).hex()


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
