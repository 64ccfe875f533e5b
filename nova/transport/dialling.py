"""Sockets that leave by the interface of their own address, and what their errors mean.

An unscoped connect to 169.254.x.x leaves by whichever interface the routing table names, on a Mac Wi-Fi as a rule,
although the peer is at the end of a Thunderbolt cable. So whoever dials says from where.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys

from nova.clock import monotonic
from nova.errors import TransportUnavailable
from nova.transport.network import family, interface, is_ours, scoped, unscoped
from nova.transport.routes import Route

# Of macOS, where Python's socket module lacks them: <netinet/in.h> and <netinet6/in6.h> of Apple's SDK.
IP_BOUND_IF = 25
IPV6_BOUND_IF = 125

INSTANT_S = 0.001
"""An "unreachable" sooner than this comes from our own kernel: no packet was answered."""

REFUSAL_S = 0.02
"""Longer than a round trip in a local network, and short beside any deadline."""

SockAddr = tuple[str, int] | tuple[str, int, int, int]


def sockaddr(host: str, port: int) -> SockAddr:
    """A numeric address as sockets take it. Raises OSError when this machine has no interface of its scope's name."""
    if family(host) == socket.AF_INET:
        return host, port
    scope = host.partition("%")[2]
    return unscoped(host), port, 0, socket.if_nametoindex(scope) if scope else 0


def on_our_link(route: Route) -> str:
    """The address at the peer's end. A scope in it is the peer's name of the link, so ours takes its place."""
    scope = route.source.partition("%")[2]
    return f"{unscoped(route.target)}%{scope}" if scope else route.target


def target(route: Route, port: int) -> SockAddr:
    """What to connect to. Raises OSError as `sockaddr`."""
    return sockaddr(on_our_link(route), port)


def device(route: Route) -> str:
    """The interface that a route is to be bound to; "" where the kernel finds the way itself.

    The way to an address of this machine is inside it, whatever interface has the address.
    """
    if is_ours(route.target):
        return ""
    try:
        return interface(route.source)
    except TransportUnavailable:  # it went away; binding to the address will say so
        return ""


def bindable(route: Route) -> str:
    """Where SO_BINDTODEVICE is left to others, as to libzmq: the interface if Linux permits it, else ""."""
    name = device(route)
    if not name or sys.platform != "linux":
        return ""
    with socket.socket(family(route.source), socket.SOCK_STREAM) as trial:
        try:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        except OSError:
            return ""
    return name


def bind_to_interface(sock: socket.socket, route: Route) -> None:
    """Let `sock`, not yet connected, leave by the interface of `route.source` and from that address.

    macOS: IP_BOUND_IF. Linux: SO_BINDTODEVICE where that is permitted; elsewhere the source address alone has to do.
    Raises OSError when the address is not this machine's any more.
    """
    name = device(route)
    if name and sys.platform == "darwin":
        six = sock.family == socket.AF_INET6
        level, option = (socket.IPPROTO_IPV6, IPV6_BOUND_IF) if six else (socket.IPPROTO_IP, IP_BOUND_IF)
        sock.setsockopt(level, option, socket.if_nametoindex(name))
    elif name and sys.platform == "linux":
        with contextlib.suppress(PermissionError):  # CAP_NET_RAW, before Linux 5.7
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
    sock.bind(sockaddr(route.source, 0))


def refusal(route: Route, port: int) -> str:
    """Why a dial that has failed did so, asked of a plain socket for REFUSAL_S; "" when that does not fail so soon.

    For libraries that keep the reason to themselves, as libzmq does.
    """
    with socket.socket(family(route.target), socket.SOCK_STREAM) as sock:
        sock.settimeout(REFUSAL_S)
        begun = monotonic()
        try:
            bind_to_interface(sock, route)
            sock.connect(target(route, port))
        except TimeoutError:
            return ""
        except OSError as error:
            return unreachable(error.errno or 0, monotonic() - begun)
    return ""


def way(sock: socket.socket) -> str:
    """Over which addresses and interface a connected socket reaches its peer, for people."""
    try:
        own, peer = scoped(sock.getsockname()), scoped(sock.getpeername())
        return f"{peer} from {own} over {interface(own)}"
    except (OSError, TransportUnavailable):
        return "a connection that has ended"


def unreachable(code: int, after_s: float, system: str = sys.platform) -> str:
    """Why a connection failed with `code` (errno) `after_s` after it was dialled, in words that help. Pure."""
    if code != errno.EHOSTUNREACH:
        return os.strerror(code)
    if system == "darwin" and after_s < INSTANT_S:
        # Apple TN3179: macOS answers so, with errno 65, for a program that may not use the local network.
        return (
            f"{os.strerror(code)} at once: macOS does not let this program use the local network; allow it in System "
            "Settings > Privacy & Security > Local Network, or run nova-node from Terminal or as a launchd daemon"
        )
    return f"{os.strerror(code)}: no route to it, or nobody has that address on this link"
