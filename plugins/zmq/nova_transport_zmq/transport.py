"""What the transport is, and what it promises."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from nova.errors import TransportUnavailable
from nova.transport.api import API_VERSION, Attachment, Endpoint, Seat, Transport, TransportInfo
from nova.transport.network import Place, places
from nova_transport_zmq.config import ZmqConfig
from nova_transport_zmq.errors import NAME
from nova_transport_zmq.group import caps


class ZmqTransport(Transport):
    """Two sockets per pair of ranks, one for each direction; CURVE keys are checked, and the ticket on top."""

    name = NAME
    api = API_VERSION
    version = "0.1.0"
    Config = ZmqConfig

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        """Available with every address of `hosts` that is this machine's, if libzmq knows CURVE or need not."""
        if self.config.curve and not zmq.has("curve"):
            raise TransportUnavailable("this libzmq was built without CURVE: set transport.options.zmq.curve = false")
        attachments = tuple(map(_attachment, places(hosts)))
        return TransportInfo(self.name, self.version, self.api, caps(self.config.curve), attachments)

    def open(self, seat: Seat) -> Endpoint:
        """Listen on free ports of `seat.hosts`. Raises TransportUnavailable."""
        from nova_transport_zmq.endpoint import ZmqEndpoint  # here, because a probe does without it and its imports

        return ZmqEndpoint(seat, self.config)


def _attachment(place: Place) -> Attachment:
    # Estimates until a group has measured its links: a Python round trip on loopback, and gigabit Ethernet.
    latency_s, bandwidth = (90e-6, 1e9) if place.domain.startswith("loopback/") else (300e-6, 110e6)
    return Attachment(place.domain, place.host, latency_s, bandwidth, place.interface)
