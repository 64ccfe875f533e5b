"""Sockets leave from the address they were told to, and their errors say what to do."""

from __future__ import annotations

import errno
import os
import socket
import sys

import psutil
import pytest

from nova.transport import dialling
from nova.transport.dialling import (
    IP_BOUND_IF,
    IPV6_BOUND_IF,
    bind_to_interface,
    bindable,
    device,
    refusal,
    sockaddr,
    target,
    unreachable,
    way,
)
from nova.transport.routes import Route

LIMIT_S = 5.0


def connect(route: Route) -> str:
    """Dial a listener at `route.target` from `route.source`; the address that it saw."""
    kind = socket.AF_INET6 if ":" in route.target else socket.AF_INET
    with socket.socket(kind) as listener, socket.socket(kind) as sock:
        listener.bind(sockaddr(route.target, 0))
        listener.listen()
        listener.settimeout(LIMIT_S)
        sock.settimeout(LIMIT_S)
        bind_to_interface(sock, route)
        sock.connect(target(route, listener.getsockname()[1]))
        accepted, seen = listener.accept()
        accepted.close()
        return str(seen[0])


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has 127.0.0.1 only, unless an alias was made")
def test_a_connection_comes_from_the_address_it_was_bound_to() -> None:
    assert connect(Route("127.0.0.2", "127.0.0.3")) == "127.0.0.2"


def test_a_connection_to_this_machine_s_own_address_needs_no_interface() -> None:
    own = [
        entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family == socket.AF_INET and psutil.net_if_stats()[name].isup
    ]
    for host in own:
        assert device(Route(host, host)) == bindable(Route(host, host)) == ""
        assert connect(Route(host, host)) == host


def test_a_link_local_ipv6_address_is_dialled_on_the_link_of_its_source() -> None:
    found = [
        entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.address.startswith("fe80") and "%" in entry.address and psutil.net_if_stats()[name].isup
    ]
    if not found:
        pytest.skip("this machine has no link-local IPv6 address")
    ours = found[0]
    elsewhere = ours.partition("%")[0] + "%the-peer-s-name-of-the-link"
    assert target(Route(ours, elsewhere), 7)[2:] == (0, socket.if_nametoindex(ours.partition("%")[2]))
    assert connect(Route(ours, ours)).partition("%")[0] == ours.partition("%")[0]


def test_an_interface_that_went_away_is_an_os_error() -> None:
    with pytest.raises(OSError, match="interface"):
        sockaddr("fe80::1%no-such-if", 1)


def test_a_refused_dial_has_its_reason_and_one_that_is_taken_has_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert refusal(Route("127.0.0.1", "127.0.0.1"), port) == ""
    assert refusal(Route("127.0.0.1", "127.0.0.1"), port) == os.strerror(errno.ECONNREFUSED)
    assert "address" in refusal(Route("203.0.113.9", "127.0.0.1"), port)  # not an address of ours


def test_a_connection_tells_its_addresses_and_interface_and_an_ended_one_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname(), LIMIT_S)
        assert way(sock).startswith("127.0.0.1 from 127.0.0.1 over lo")
        sock.close()
        assert way(sock) == "a connection that has ended"


class Recorder:
    """Stands for a socket of macOS, which has options that Linux lacks."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.family = family
        self.options: list[tuple[int, int, object]] = []
        self.bound: object = None

    def setsockopt(self, level: int, option: int, value: object) -> None:
        self.options.append((level, option, value))

    def bind(self, address: object) -> None:
        self.bound = address


@pytest.mark.parametrize(
    ("kind", "source", "option"),
    [
        (socket.AF_INET, "169.254.1.1", (socket.IPPROTO_IP, IP_BOUND_IF, 7)),
        (socket.AF_INET6, "fd00::1", (socket.IPPROTO_IPV6, IPV6_BOUND_IF, 7)),
    ],
)
def test_on_macos_the_socket_is_bound_to_the_interface_s_number(
    monkeypatch: pytest.MonkeyPatch, kind: socket.AddressFamily, source: str, option: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(dialling, "device", lambda route: "en5")
    monkeypatch.setattr(socket, "if_nametoindex", lambda name: {"en5": 7}[name])
    sock = Recorder(kind)
    bind_to_interface(sock, Route(source, "x"))  # type: ignore[arg-type]
    assert sock.options == [option]
    assert sock.bound in ((source, 0), (source, 0, 0, 0))


def test_where_linux_does_not_permit_the_interface_the_source_address_is_bound_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Forbidden(Recorder):
        def setsockopt(self, level: int, option: int, value: object) -> None:
            super().setsockopt(level, option, value)
            raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(dialling, "device", lambda route: "tb0")
    sock = Forbidden(socket.AF_INET)
    bind_to_interface(sock, Route("169.254.1.1", "169.254.1.2"))  # type: ignore[arg-type]
    assert (len(sock.options), sock.bound) == (1, ("169.254.1.1", 0))


@pytest.mark.parametrize(
    ("code", "after_s", "system", "says"),
    [
        (errno.EHOSTUNREACH, 0.0002, "darwin", "Privacy & Security > Local Network"),
        (errno.EHOSTUNREACH, 3.0, "darwin", "no route to it"),
        (errno.EHOSTUNREACH, 0.0002, "linux", "no route to it"),
        (errno.ECONNREFUSED, 0.0002, "darwin", "refused"),
        (errno.ETIMEDOUT, 30.0, "linux", "timed out"),
    ],
)
def test_a_failed_dial_says_what_to_do(code: int, after_s: float, system: str, says: str) -> None:
    assert says in unreachable(code, after_s, system)
