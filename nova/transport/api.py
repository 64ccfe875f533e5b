"""What a transport plugin implements. Standard library only, so that a plugin is cheap to import.

The life of a transport, and who calls what:

    Transport.probe      a node daemon, to make its offer; talks to no peer
    Transport.open       an engine, with its seat in the group; talks to no peer
    Endpoint.card        the engine; the control plane hands every rank's card to every rank
    Endpoint.join        all engines at one go; the only step that waits for peers
    Group.send/recv_into the engine's busy loop, synchronous, every call under a deadline
    Group.close/abort    the engine, at its end

All calls are synchronous because the caller is a busy loop and MLX calls block; asyncio stays in the control
plane. A group carries *parts*: the unit of exact length. `send([a, b], dst)` sends two parts, scatter-gather,
without building a copy; the peer takes each with one `recv_into` of precisely its length. What a part means
(header, tensor) is agreed above, in `nova.wire.tensor`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from nova.clock import Deadline

API_VERSION = (1, 0)
"""Major must equal a plugin's, minor must not be lower than the plugin's."""

MAX_CARD_BYTES = 64 * 1024

Buffer = bytes | bytearray | memoryview
WritableBuffer = bytearray | memoryview


class Caps(enum.Flag):
    """What a transport promises. Every flag that is set is held to it by the conformance kit."""

    ANY_PAIR = enum.auto()  # any two ranks; without it, ring neighbours only
    DEADLINE = enum.auto()  # honours deadlines inside calls; without it the engine must be killed
    ABORT = enum.auto()  # abort() wakes blocked calls
    PEER_FAILURE = enum.auto()  # a peer's death raises PeerLost
    REFORM = enum.auto()  # a second group in one process is possible
    FULL_DUPLEX = enum.auto()  # send and recv_into at once, from two threads
    AUTHENTICATED = enum.auto()  # both ends proved that they hold the group's ticket
    ENCRYPTED = enum.auto()
    INTER_HOST = enum.auto()


@dataclass(frozen=True)
class Attachment:
    """One way this node is attached. Two nodes reach each other iff they share a `domain` string."""

    domain: str
    address: str
    latency_s: float
    bandwidth_bytes_s: float


@dataclass(frozen=True)
class TransportInfo:
    """A probe's answer: what this transport can do on this machine."""

    name: str
    version: str
    api: tuple[int, int]
    caps: Caps
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True)
class Seat:
    """One engine's place in a group. `ticket` is a secret of this generation, the same for all ranks."""

    group: str
    generation: int
    rank: int
    size: int
    ticket: bytes = field(repr=False)
    host: str = "127.0.0.1"
    """The address of this node that peers can dial; listeners bind to it."""


class Rendezvous(Protocol):
    """The side channel that the control plane lends during forming."""

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        """Every rank's blob, by rank. Raises FormingFailed, also when the deadline passes."""


class Transport(ABC):
    """A plugin. `name` equals its entry-point name in the group `nova.transports`."""

    name: ClassVar[str]
    api: ClassVar[tuple[int, int]]
    version: ClassVar[str]
    Config: ClassVar[type[Any]]
    """A frozen dataclass of options with defaults; each field has `metadata={"help": ...}`."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def probe(self, host: str) -> TransportInfo:
        """What it can do here, where `host` is the address this node offers to peers. Bounded, without peers.

        Raises TransportUnavailable with the reason, and nothing else.
        """

    @abstractmethod
    def open(self, seat: Seat) -> Endpoint:
        """Take local resources (listeners). Talks to no peer. Raises TransportUnavailable."""


class Endpoint(ABC):
    """Opened, not yet connected."""

    @abstractmethod
    def card(self) -> bytes:
        """How the peers reach this endpoint; opaque, at most MAX_CARD_BYTES."""

    @abstractmethod
    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        """Connect to the peers. `cards` are indexed by rank. Raises FormingFailed; afterwards nothing is left open."""

    @abstractmethod
    def close(self) -> None:
        """Release local resources. Idempotent; a joined group lives on."""


class Group(ABC):
    """Connected ranks of one generation. One thread may send while another receives."""

    rank: int
    size: int
    caps: Caps

    @abstractmethod
    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        """Send whole parts, in order; buffers are the transport's until the call returns.

        Raises TransferTimeout, PeerLost, GroupBroken, GroupClosed. A part must be contiguous (ValueError).
        """

    @abstractmethod
    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        """Receive the next part from `src`, which must have exactly len(out) bytes.

        Raises LengthMismatch, TransferTimeout, PeerLost, GroupBroken, GroupClosed. After a timeout at which
        nothing of the part had arrived the group is still whole; any other error breaks it for good.
        """

    @abstractmethod
    def close(self, deadline: Deadline) -> None:
        """End gracefully: what was sent is flushed. Closes even if it fails to be graceful. Idempotent."""

    @abstractmethod
    def abort(self) -> None:
        """End at once; from any thread, never blocks, wakes blocked calls with GroupClosed. Idempotent."""


Options = Mapping[str, object]
"""A plugin's options as they stand in a configuration file."""
