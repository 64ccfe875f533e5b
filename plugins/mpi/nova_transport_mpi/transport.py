"""What the transport is, and what it promises."""

from __future__ import annotations

from collections.abc import Sequence

from nova.errors import TransportUnavailable
from nova.transport.api import API_VERSION, Attachment, Seat, Transport, TransportInfo
from nova.transport.network import domain, places
from nova_transport_mpi import backend, library
from nova_transport_mpi.config import MpiConfig
from nova_transport_mpi.endpoint import MpiEndpoint
from nova_transport_mpi.errors import NAME
from nova_transport_mpi.group import CAPS, COLLECTIVES

LATENCY_S = 100e-6
BANDWIDTH_BYTES_S = 1e9
"""Estimates for TCP until a group has measured its links."""


class MpiTransport(Transport):
    """An MPI world of engines. It authenticates nobody: Open MPI's own connections are plain."""

    name = NAME
    api = API_VERSION
    version = "0.1.0"
    Config = MpiConfig

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        """Available where MLX loads Open MPI, and mpirun is there. Raises TransportUnavailable."""
        usable = [place for place in places(hosts) if ":" not in place.host]
        if not usable:
            raise TransportUnavailable(f"MPI needs an IPv4 address, and transport.hosts is {', '.join(hosts)}")
        path = library.library(self.config)
        library.launcher(self.config)
        alike = {"mpi": library.version(path), "mlx": backend.available(path)}
        attachments = tuple(
            Attachment(place.domain, place.host, LATENCY_S, BANDWIDTH_BYTES_S, place.interface) for place in usable
        )
        return TransportInfo(self.name, self.version, self.api, CAPS, attachments, COLLECTIVES, alike)

    def open(self, seat: Seat) -> MpiEndpoint:
        """Takes nothing. Raises TransportUnavailable."""
        backend.check_free()
        path = library.library(self.config)
        backend.available(path)
        _, _, network = domain(seat.hosts[0]).partition("/")
        return MpiEndpoint(seat, path, library.launcher(self.config), network)
