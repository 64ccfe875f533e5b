"""The rim's hold on libzmq: sockets with every limit set, and sends and receives that never block.

The sockets are plain ones, watched by their file descriptor. A loop that reads until nothing is left and then waits
for `Readiness` is a single task: nothing runs beside it that could fail unseen or be left behind, which the futures
and helper tasks of zmq.asyncio sockets would be.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket as net
from contextlib import suppress

import zmq

from nova.control.keys import KeyPair
from nova.control.zap import DOMAIN
from nova.errors import ControlError, NodeLost
from nova.wire.codec import MAX_BODY_BYTES, Frames

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]

HANDSHAKE_MS = 5_000
CONNECT_MS = 5_000
QUEUE_MESSAGES = 1_000
"""Messages that wait for one peer; when it does not read that many, it is treated as lost."""

# Beyond this libzmq itself cuts the connection; up to it an oversized frame is counted and answered for by name.
_MAX_FRAME_BYTES = MAX_BODY_BYTES + (64 << 10)


def server(context: Context, keys: KeyPair) -> Socket:
    """A ROUTER, not yet bound, that admits whom the context's ZAP handler admits."""
    socket = _limited(context.socket(zmq.ROUTER), keys)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return socket


def client(context: Context, keys: KeyPair, server_key: str) -> Socket:
    """A DEALER, not yet connected, for one attempt: when its connection ends, so does its use."""
    socket = _limited(context.socket(zmq.DEALER), keys)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    return socket


def _limited(socket: Socket, keys: KeyPair) -> Socket:
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.MAXMSGSIZE, _MAX_FRAME_BYTES),
        (zmq.SNDHWM, QUEUE_MESSAGES),
        (zmq.RCVHWM, QUEUE_MESSAGES),
        (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        (zmq.IPV6, 1),
    ):
        socket.setsockopt(option, value)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
    return socket


async def bind(socket: Socket, address: str) -> int:
    """Binds to "host:port" (port 0 takes a free one) and returns the port. Raises ControlError."""
    host, port = split(address)
    try:
        # libzmq binds to numeric addresses only.
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=net.SOCK_STREAM)
        numeric = found[0][4][0]
        socket.bind(f"tcp://[{numeric}]:{port}" if ":" in str(numeric) else f"tcp://{numeric}:{port}")
    except (OSError, zmq.ZMQError) as error:
        hint = "is another coordinator running?"
        if error.errno == errno.EADDRNOTAVAIL:
            hint = "set control.address to an address of this machine"
        raise ControlError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}; {hint}") from error
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])


def endpoint(address: str) -> str:
    host, port = split(address)
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". Raises ControlError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ControlError(f"{address!r} is no address: write host:port, as in 127.0.0.1:29200")
    return host.removeprefix("[").removesuffix("]"), int(port)


def receive(socket: Socket) -> list[zmq.Frame] | None:
    """The next message, or None if there is none now."""
    try:
        return socket.recv_multipart(zmq.DONTWAIT, copy=False)
    except zmq.Again:
        return None


def send(socket: Socket, frames: Frames, peer: str) -> None:
    """Queues a message, never waits. Raises NodeLost naming `peer` if it is unreachable or does not read."""
    try:
        socket.send_multipart(frames, zmq.DONTWAIT)
    except zmq.Again as error:
        raise NodeLost(f"{peer} does not read: {QUEUE_MESSAGES} messages wait for it") from error
    except zmq.ZMQError as error:
        raise NodeLost(f"{peer} cannot be reached: {error.strerror}") from error


class Readiness:
    """Wakes one task when one of its sockets may have something to read.

    A descriptor of libzmq announces changes, not states: after `wait`, every socket must be read until it is empty;
    whoever sends outside the reading task must `nudge`, because a send can swallow an announcement.
    """

    def __init__(self, *sockets: Socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._descriptors = [int(socket.getsockopt(zmq.FD)) for socket in sockets]
        for descriptor in self._descriptors:
            self._loop.add_reader(descriptor, self._event.set)

    def nudge(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Until a socket may be readable, a nudge, or for `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()

    def close(self) -> None:
        """To be called before the sockets are closed."""
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
