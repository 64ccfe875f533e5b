"""What the transport is, and what it promises."""

from __future__ import annotations

from collections.abc import Sequence

from nova.transport.api import API_VERSION, Attachment, Endpoint, Seat, Transport, TransportInfo
from nova.transport.network import Place, places
from nova_transport_tcp.config import TcpConfig
from nova_transport_tcp.errors import NAME
from nova_transport_tcp.group import CAPS


class TcpTransport(Transport):
    """One TCP connection per pair of ranks; both ends prove that they hold the group's ticket."""

    name = NAME
    api = API_VERSION
    version = "0.1.0"
    Config = TcpConfig

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        """Available with every address of `hosts` that is this machine's."""
        return TransportInfo(self.name, self.version, self.api, CAPS, tuple(map(_attachment, places(hosts))))

    def open(self, seat: Seat) -> Endpoint:
        """Listen on free ports of `seat.hosts`. Raises TransportUnavailable."""
        from nova_transport_tcp.endpoint import TcpEndpoint  # here, because a probe does without it and its imports

        return TcpEndpoint(seat, self.config)


def _attachment(place: Place) -> Attachment:
    # Estimates until a group has measured its links: a Python round trip on loopback, and gigabit Ethernet.
    latency_s, bandwidth = (20e-6, 3e9) if place.domain.startswith("loopback/") else (200e-6, 115e6)
    return Attachment(place.domain, place.host, latency_s, bandwidth, place.interface)
