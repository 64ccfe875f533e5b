"""What the transport is, and what it promises."""

from __future__ import annotations

from collections.abc import Sequence

from nova.errors import TransportUnavailable
from nova.transport.api import API_VERSION, Attachment, Seat, Transport, TransportInfo
from nova_transport_jaccl.backend import MlxBackend
from nova_transport_jaccl.config import JacclConfig
from nova_transport_jaccl.endpoint import JacclEndpoint
from nova_transport_jaccl.errors import NAME
from nova_transport_jaccl.facts import Facts
from nova_transport_jaccl.gather import facts
from nova_transport_jaccl.group import CAPS, collectives
from nova_transport_jaccl.ledger import Ledger
from nova_transport_jaccl.verdict import Usable, alike, judge

LATENCY_S = 50e-6
"""One way, until a group has measured it: below 50 us, as published with exo for four Mac Studios (M3 Ultra)."""

BANDWIDTH_BYTES_S = 3.5e9
"""Likewise: 3.5 to 3.8 GB/s between two Mac Studios over send and recv of MLX (ml-explore/mlx #3207)."""


class JacclTransport(Transport):
    """RDMA over Thunderbolt 5 between Macs. Moves arrays only, so it is formed beside a transport that moves bytes."""

    name = NAME
    api = API_VERSION
    version = "0.1.0"
    Config = JacclConfig

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        """One attachment for each usable port: RDMA has addresses of its own, whatever `hosts` are.

        The collectives are those of any topology, as CAPS are: what a mesh can do besides, only its group says.
        """
        known, ports = self._usable()
        version = known.mlx.version if known.mlx else ""
        attachments = tuple(_attachment(port) for port in ports)
        return TransportInfo(self.name, self.version, self.api, CAPS, attachments, collectives(version), alike(known))

    def open(self, seat: Seat) -> JacclEndpoint:
        """Asks the machine again, since cables move. Raises TransportUnavailable."""
        known, _ = self._usable()
        return JacclEndpoint(seat, known, MlxBackend(), Ledger.of_this_machine())

    def _usable(self) -> tuple[Facts, tuple[Usable, ...]]:
        known = facts(self.config)
        verdict = judge(known, Ledger.of_this_machine().failed(), self.config.failed_starts)
        if verdict.reason:
            raise TransportUnavailable(verdict.reason)
        return known, verdict.ports


def _attachment(port: Usable) -> Attachment:
    one, other = sorted((port.uuid, port.peer))
    interface = f"{port.interface} (Thunderbolt 5)"
    return Attachment(f"tb/{one}-{other}", port.address, LATENCY_S, BANDWIDTH_BYTES_S, interface)
