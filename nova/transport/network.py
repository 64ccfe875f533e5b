"""How this machine is attached to the network of an address."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

import psutil

from nova.errors import TransportUnavailable


def domain(host: str) -> str:
    """The domain of a numeric address: two nodes with equal domains can reach each other through it.

    `loopback/<machine>` for loopback, else `ip4/<network>` or `ip6/<network>`. Raises TransportUnavailable when
    the address is not numeric, not this machine's, or of a kind that peers cannot dial.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise TransportUnavailable(f"{host!r} is not a numeric address: set transport.hosts") from error
    if address.is_loopback:
        return f"loopback/{_machine()}"
    if address.is_unspecified or (address.version == 6 and address.is_link_local):
        raise TransportUnavailable(f"peers cannot dial {host}: set transport.hosts to another address of this node")
    ours: list[str] = []
    for interface, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.family not in (socket.AF_INET, socket.AF_INET6) or not entry.netmask:
                continue
            if entry.address == host:
                bits = int(ipaddress.ip_address(entry.netmask)).bit_count()
                return f"ip{address.version}/{ipaddress.ip_network((host, bits), strict=False)}"
            ours.append(f"{entry.address} ({interface})")
    raise TransportUnavailable(f"{host} is not an address of this machine, which has {', '.join(ours) or 'none'}")


def family(host: str) -> socket.AddressFamily:
    """The socket family of a numeric address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _machine() -> str:
    """Equal for two processes exactly when they share a loopback interface."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{os.stat('/proc/self/ns/net').st_ino}"
    except OSError:  # not Linux: one loopback per machine
        return socket.gethostname()
