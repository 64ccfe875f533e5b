"""How this machine is attached to the network of an address."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from nova.errors import TransportUnavailable


@dataclass(frozen=True)
class Place:
    """One address of this node: the domain in which peers dial it, and the interface that has it ("en5")."""

    host: str
    domain: str
    interface: str


def place(host: str) -> Place:
    """Where a numeric address of this machine belongs; a link-local IPv6 address carries its scope, `fe80::1%en5`.

    The domain is `loopback/<machine>` for loopback, else `ip4/<network>` or `ip6/<network>`; two nodes with equal
    domains can reach each other through it. Link-local networks of all cables have one name: whether two of them are
    the same cable shows only when one is dialled. Raises TransportUnavailable when the address is not numeric, not
    this machine's, or of a kind that peers cannot dial.
    """
    address = _numeric(host)
    if address.is_unspecified or address.is_multicast:
        raise TransportUnavailable(f"peers cannot dial {host}: set transport.hosts to another address of this node")
    if isinstance(address, ipaddress.IPv6Address) and address.is_link_local and not address.scope_id:
        raise TransportUnavailable(f"{host} is on every link: write its interface too, as in {host}%en5")
    ours: list[str] = []
    for interface, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.family not in (socket.AF_INET, socket.AF_INET6) or not entry.netmask:
                continue
            theirs = ipaddress.ip_address(entry.address)
            if address.is_loopback and theirs.is_loopback:
                return Place(host, f"loopback/{_machine()}", interface)
            if theirs == address:
                bits = int(ipaddress.ip_address(entry.netmask)).bit_count()
                network = ipaddress.ip_network((unscoped(host), bits), strict=False)
                return Place(host, f"ip{address.version}/{network}", interface)
            ours.append(f"{entry.address} ({interface})")
    raise TransportUnavailable(f"{host} is not an address of this machine, which has {', '.join(ours) or 'none'}")


def places(hosts: Sequence[str]) -> list[Place]:
    """The place of each address that can be used, in the same order.

    Raises TransportUnavailable with the reason against each of them when none can.
    """
    found: list[Place] = []
    refused: list[str] = []
    for host in hosts:
        try:
            found.append(place(host))
        except TransportUnavailable as error:
            refused.append(str(error))
    if not found:
        raise TransportUnavailable("; ".join(refused) or "this node has no address for peers: set transport.hosts")
    return found


def domain(host: str) -> str:
    """The domain of a numeric address; see `place`."""
    return place(host).domain


def interface(host: str) -> str:
    """The interface that has a numeric address; see `place`."""
    return place(host).interface


def family(host: str) -> socket.AddressFamily:
    """The socket family of a numeric address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def unscoped(host: str) -> str:
    """The address without the interface, which only its own machine knows by that name."""
    return host.partition("%")[0]


def scoped(sockaddr: tuple[Any, ...]) -> str:
    """The numeric address in a socket's address, with the interface of a link-local one, which Python leaves out."""
    host = str(sockaddr[0])
    if len(sockaddr) != 4 or not sockaddr[3] or "%" in host:
        return host
    return f"{host}%{socket.if_indextoname(sockaddr[3])}"


def is_ours(host: str) -> bool:
    """Whether a numeric address, of whatever scope, is one of this machine's."""
    if ipaddress.ip_address(unscoped(host)).is_loopback:
        return True
    entries = (entry for each in psutil.net_if_addrs().values() for entry in each)
    return any(unscoped(entry.address) == unscoped(host) for entry in entries)


Snapshot = frozenset[tuple[str, str, bool]]


def snapshot() -> Snapshot:
    """Every (interface, address, whether it is up): equal as long as nothing about them has changed."""
    up = {name: state.isup for name, state in psutil.net_if_stats().items()}
    return frozenset(
        (name, entry.address, up.get(name, False))
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
    )


def _numeric(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(host)
    except ValueError as error:
        raise TransportUnavailable(f"{host!r} is not a numeric address: set transport.hosts") from error


def _machine() -> str:
    """Equal for two processes exactly when they share a loopback interface."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{os.stat('/proc/self/ns/net').st_ino}"
    except OSError:  # not Linux: one loopback per machine
        return socket.gethostname()
