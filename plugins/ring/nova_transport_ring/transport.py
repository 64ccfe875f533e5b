"""What the transport is, and what it promises."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from nova.errors import TransportUnavailable
from nova.transport.api import API_VERSION, Attachment, Seat, Transport, TransportInfo
from nova.transport.network import Place, places
from nova.transport.routes import MAX_ADDRESSES
from nova_transport_ring.config import RingConfig
from nova_transport_ring.errors import NAME
from nova_transport_ring.group import CAPS, COLLECTIVES

if TYPE_CHECKING:
    from nova_transport_ring.endpoint import RingEndpoint

OLDEST_MLX = (0, 32, 1)
"""In older ones a peer's death is not seen: the others spin for ever (ml-explore/mlx #3862, #4060)."""


class RingTransport(Transport):
    """TCP connections that MLX makes between neighbours. Moves arrays only: formed beside one that moves bytes."""

    name = NAME
    api = API_VERSION
    version = "0.1.0"
    Config = RingConfig

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        """Available where MLX has the ring, for every IPv4 address of this machine."""
        mlx = usable_mlx()
        attachments = tuple(_attachment(place) for place in ipv4_places(hosts))
        return TransportInfo(self.name, self.version, self.api, CAPS, attachments, COLLECTIVES, {"mlx": mlx})

    def open(self, seat: Seat) -> RingEndpoint:
        """Listen on a port of each IPv4 address. Raises TransportUnavailable."""
        from nova_transport_ring.endpoint import RingEndpoint  # here, because a probe does without it and its imports

        return RingEndpoint(seat, self.config, ipv4_places(seat.hosts))


def usable_mlx() -> str:
    """The version of the installed MLX. Raises TransportUnavailable when its ring cannot be used."""
    try:
        installed = version("mlx")
    except PackageNotFoundError as error:
        raise TransportUnavailable("MLX is not installed: pip install mlx") from error
    if tuple(map(int, re.findall(r"\d+", installed)[:3])) < OLDEST_MLX:
        oldest = ".".join(map(str, OLDEST_MLX))
        raise TransportUnavailable(f"MLX {installed} spins for ever when a peer dies: install {oldest} or newer")
    try:
        import mlx.core as mx
    except ImportError as error:
        raise TransportUnavailable(f"MLX {installed} cannot be imported: {error}") from error
    if not mx.distributed.is_available("ring"):
        raise TransportUnavailable(f"MLX {installed} was built without its ring backend: install its wheel")
    return installed


def ipv4_places(hosts: Sequence[str]) -> list[Place]:
    """This machine's IPv4 addresses among `hosts`, in their order. Raises TransportUnavailable when there is none."""
    found = [host for host in dict.fromkeys(hosts) if _is_ipv4(host)]
    others = [host for host in hosts if host not in found]
    only = f"the ring speaks IPv4 only, and not to {', '.join(others)}" if others else ""
    if not found:
        raise TransportUnavailable(f"{only or 'this node has no address'}: put an IPv4 address into transport.hosts")
    try:
        return places(found)[:MAX_ADDRESSES]
    except TransportUnavailable as error:
        raise TransportUnavailable(f"{error}; {only}" if only else str(error)) from error


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _attachment(place: Place) -> Attachment:
    # Estimates until a group has measured its links: MLX's ring on loopback of two cores, where 16 KiB go there and
    # back in 47 us and 64 MiB in 78 ms (MLX 0.32.4); and gigabit Ethernet.
    latency_s, bandwidth = (20e-6, 1.7e9) if place.domain.startswith("loopback/") else (200e-6, 115e6)
    return Attachment(place.domain, place.host, latency_s, bandwidth, place.interface)
