"""tcp under another name, whose join fails until a file is there: a link that is out of order, and then mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nova_transport_tcp import TcpConfig, TcpTransport

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Endpoint, Group, Rendezvous, Seat, Transport, TransportInfo
from nova.wire import phases


@dataclass(frozen=True)
class MoodyConfig:
    """Options of `[transport.options.moody]`."""

    mended: str = field(default="", metadata={"help": "path; the link works while this file is there"})


class MoodyTransport(Transport):
    """Promises what tcp promises, once it works."""

    name = "moody"
    api = TcpTransport.api
    version = TcpTransport.version
    Config = MoodyConfig

    def __init__(self, config: MoodyConfig) -> None:
        super().__init__(config)
        self._tcp = TcpTransport(TcpConfig())

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        return replace(self._tcp.probe(hosts), name=self.name)

    def open(self, seat: Seat) -> Endpoint:
        return MoodyEndpoint(self._tcp.open(seat), Path(self.config.mended), seat.rank)


class MoodyEndpoint(Endpoint):
    """tcp's, but for the one condition."""

    def __init__(self, inner: Endpoint, mended: Path, rank: int) -> None:
        self._inner = inner
        self._mended = mended
        self._rank = rank

    def card(self) -> bytes:
        return self._inner.card()

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        if not self._mended.exists():
            raise FormingFailed(phases.JOIN, MoodyTransport.name, self._rank, "the link is out of order")
        return self._inner.join(cards, rendezvous, deadline)

    def close(self) -> None:
        self._inner.close()
