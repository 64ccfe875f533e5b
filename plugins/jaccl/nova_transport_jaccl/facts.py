"""What is known about one machine, as far as JACCL depends on it.

The structs below are also the JSON of the option `facts`, and travel in the cards: every rank judges the facts of all
ranks by the same pure functions and comes to the same device matrix.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from nova.errors import TransportUnavailable

MAX_FACTS_BYTES = 32 * 1024
MAX_PORTS, MAX_PEERS, MAX_GIDS, MAX_TEXT = 16, 8, 16, 200

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
RdmaCtl = Literal["enabled", "disabled", "missing", "timed out", "unknown"]
PortState = Literal["PORT_ACTIVE", "PORT_DOWN", "unknown"]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Root of the facts."""


class Gid(Record, frozen=True):
    """One entry of a port's GID table."""

    index: int
    address: Text

    @property
    def ipv4(self) -> str:
        """The IPv4 address that this GID maps (::ffff:a.b.c.d), or ""."""
        try:
            mapped = ipaddress.IPv6Address(self.address).ipv4_mapped
        except ValueError:
            return ""
        return str(mapped) if mapped else ""


class Peer(Record, frozen=True):
    """A Mac that is seen through a port. Docks and disks are none: they have no domain UUID."""

    uuid: Text = ""  # of its end of the cable
    name: Text = ""
    rdma: bool = False  # it shows the RDMA service (protocol 64087), so RDMA is enabled there
    link_gbit: float | None = None  # Gb/s of the slowest link on the way
    behind: Text = ""  # the dock or hub between, if any


class Port(Record, frozen=True):
    """One Thunderbolt port. `ipv4`, `bridge`, `device`, `state` and `gids` belong to its network interface."""

    receptacle: Text
    generation: Literal[3, 4, 5] | None = None  # None: cannot be told from what is connected
    link_gbit: float | None = None  # Gb/s; None when nothing is connected
    uuid: Text = ""  # of this end of a cable
    peers: Annotated[tuple[Peer, ...], Meta(max_length=MAX_PEERS)] = ()
    interface: Text = ""  # enX
    ipv4: Annotated[tuple[Text, ...], Meta(max_length=MAX_GIDS)] = ()
    bridge: Text = ""  # the bridge that the interface is a member of
    device: Text = ""  # rdma_enX, when it is listed
    state: PortState = "unknown"
    gids: Annotated[tuple[Gid, ...], Meta(max_length=MAX_GIDS)] = ()

    @property
    def label(self) -> str:
        """The port as people know it."""
        return f"Thunderbolt {self.receptacle}" + (f" ({self.interface})" if self.interface else "")


class Mlx(Record, frozen=True):
    """What the installed MLX can do. `jaccl` says that librdma loads, which is not yet that a group can be formed."""

    version: Text
    jaccl: bool = False
    factory: bool = False  # mx.distributed.init takes all_gather_factory


class Facts(Record, frozen=True):
    """One machine. `failed` has what was wrong with a command, by its name; `hung` names those that did not end."""

    macos: Text = ""  # "" where this is not macOS
    rdma_ctl: RdmaCtl = "unknown"
    ports: Annotated[tuple[Port, ...], Meta(max_length=MAX_PORTS)] = ()
    hung: Annotated[tuple[Text, ...], Meta(max_length=16)] = ()
    failed: Annotated[dict[str, Text], Meta(max_length=16)] = {}
    mlx: Mlx | None = None  # None in a file: the MLX that is installed is asked


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (26, 6, 1) for "26.6.1", () for what is none."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def read_facts(path: Path) -> Facts:
    """The facts in a JSON file. Raises TransportUnavailable."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FACTS_BYTES + 1)
        if len(data) > MAX_FACTS_BYTES:
            raise TransportUnavailable(f"{path}: larger than {MAX_FACTS_BYTES} bytes; check transport.options.jaccl")
        return msgspec.json.decode(data, type=Facts)
    except OSError as error:
        raise TransportUnavailable(f"{path}: {error.strerror}; check transport.options.jaccl.facts") from error
    except msgspec.DecodeError as error:
        raise TransportUnavailable(f"{path}: {error}; see the README of nova-transport-jaccl") from error
