"""`system_profiler SPThunderboltDataType`, in both of its forms, as Thunderbolt ports and what is cabled to them.

A bus is a port. A Mac at the other end is an item with a domain UUID of its own, in trimmed listings one that offers
an IP service; docks and disks have neither. Behind a dock the Mac stands one level deeper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from nova_transport_jaccl.facts import MAX_PEERS, MAX_PORTS, MAX_TEXT, Peer, Port
from nova_transport_jaccl.parsing.thunderbolt_text import report
from nova_transport_jaccl.parsing.thunderbolt_types import RDMA_PROTOCOL, Item, Report, Service

MAX_DEPTH = 8
"""A Thunderbolt chain has at most six devices."""

TB5_GBIT = 80.0


def thunderbolt(output: str) -> list[Port]:
    """The ports by receptacle. Raises ValueError for text that is neither form."""
    text = output.strip()
    try:
        return _ports(msgspec.json.decode(text, type=Report) if text.startswith("{") else report(text))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"system_profiler printed what is not understood: {error}") from error


def _ports(seen: Report) -> list[Port]:
    ports = [port for bus in seen.buses if (port := _port(bus)) is not None][:MAX_PORTS]
    known = [port.generation for port in ports if port.generation is not None]
    # All Thunderbolt ports of one Mac are of one generation; a port that runs at 40 Gb/s does not show its own.
    ports = [port if port.generation else msgspec.structs.replace(port, generation=max(known, default=None))
             for port in ports]  # fmt: skip
    return sorted(ports, key=lambda port: (len(port.receptacle), port.receptacle))


def _port(bus: Item) -> Port | None:
    receptacle = str(bus.tag.receptacle)[:MAX_TEXT]
    if not receptacle:
        return None
    gbit = _gbit(bus.tag.speed)
    up_to = bus.tag.speed.lower().startswith("up to")
    generation: Literal[3, 4, 5] | None = None
    if gbit is not None and gbit >= TB5_GBIT:
        generation = 5
    elif gbit is not None and up_to:
        generation = 4 if "usb4" in bus.name.lower() else 3
    link = None if up_to else gbit
    peers = tuple(_macs(bus, link, "", MAX_DEPTH))[:MAX_PEERS]
    return Port(receptacle, generation, link, bus.uuid[:MAX_TEXT], peers)


def _macs(item: Item, link: float | None, behind: str, depth: int) -> Iterator[Peer]:
    """The Macs below `item`, to which the slowest link on the way runs at `link` Gb/s."""
    for below in item.items if depth else []:
        if below.uuid or any(service.name == "service_ip" for service in below.services):
            rdma = any(_is_rdma(service) for service in below.services)
            yield Peer(below.uuid[:MAX_TEXT], below.name[:MAX_TEXT], rdma, link, behind[:MAX_TEXT])
            continue
        onward = min((each for each in (link, _gbit(below.upstream.speed)) if each is not None), default=None)
        yield from _macs(below, onward, below.name, depth - 1)


def _is_rdma(service: Service) -> bool:
    """Older listings lack the number; the name is then the only sign."""
    return service.protocol == RDMA_PROTOCOL or (service.protocol == 0 and service.name == "unknown_xd_service")


def _gbit(speed: str) -> float | None:
    match = re.search(r"(\d+(?:\.\d+)?)\s*Gb/s", speed)
    return float(match.group(1)) if match else None
