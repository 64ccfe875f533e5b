"""What an endpoint tells the others about itself."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from nova.transport.routes import MAX_ADDRESSES, Address

Port = Annotated[int, Meta(ge=1, le=65535)]


class Listener(Address, frozen=True, forbid_unknown_fields=True):
    """An address at which an endpoint listens: for each higher rank a port per lane."""

    ports: dict[int, tuple[Port, Port]]


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The CURVE public key (empty: no CURVE), and where an endpoint listens, best first; nobody dials the last rank."""

    key: Annotated[str, Meta(max_length=40)]
    listeners: Annotated[list[Listener], Meta(max_length=MAX_ADDRESSES)]

    def port(self, host: str, rank: int, lane: int) -> int | None:
        """Where `rank` is to dial; None when the card has no port for it."""
        ports = next((each.ports for each in self.listeners if each.host == host), {}).get(rank)
        return ports[lane] if ports is not None else None
