"""What the transport is, what it promises, and its options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from nova.transport.api import API_VERSION, Attachment, Seat, Transport, TransportInfo
from nova.transport.network import domain
from nova_transport_tcp.endpoint import TcpEndpoint
from nova_transport_tcp.errors import NAME
from nova_transport_tcp.group import CAPS


@dataclass(frozen=True)
class TcpConfig:
    """Options of `[transport.options.tcp]`."""

    handshake_s: Annotated[float, Meta(gt=0)] = field(
        default=2.0, metadata={"help": "s; a connection that has not proved itself by then is dropped"}
    )
    candidates: Annotated[int, Meta(ge=1)] = field(
        default=64, metadata={"help": "unproved connections kept at once; one more drops the oldest"}
    )
    staging_bytes: Annotated[int, Meta(ge=512)] = field(
        default=64 << 10, metadata={"help": "bytes; one receive takes up to this, so that small parts share it"}
    )
    keepalive_s: Annotated[int, Meta(ge=1)] = field(
        default=5, metadata={"help": "s; an idle peer that answers nothing for about twice this counts as lost"}
    )


class TcpTransport(Transport):
    """One TCP connection per pair of ranks; both ends prove that they hold the group's ticket."""

    name = NAME
    api = API_VERSION
    version = "0.1.0"
    Config = TcpConfig

    def probe(self, host: str) -> TransportInfo:
        """Available wherever `host` is an address of this machine."""
        where = domain(host)
        # Estimates until a group has measured its links: a Python round trip on loopback, and gigabit Ethernet.
        latency_s, bandwidth = (20e-6, 3e9) if where.startswith("loopback/") else (200e-6, 115e6)
        return TransportInfo(self.name, self.version, self.api, CAPS, (Attachment(where, host, latency_s, bandwidth),))

    def open(self, seat: Seat) -> TcpEndpoint:
        """Listen on a free port of `seat.host`. Raises TransportUnavailable."""
        return TcpEndpoint(seat, self.config)
