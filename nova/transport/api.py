"""What a transport plugin implements. Standard library only, so that a plugin is cheap to import.

The life of a transport, and who calls what:

    Transport.probe      a throw-away child of a node daemon, to make its offer; talks to no peer
    Transport.open       an engine, with its seat in the group; talks to no peer
    Endpoint.card        the engine; the control plane hands every rank's card to every rank
    Endpoint.join        all engines at one go; the only step that waits for peers
    Group ...            the engine's busy loop, synchronous, every call under a deadline
    Group.close/abort    the engine, at its end

All calls are synchronous because the caller is a busy loop and MLX calls block; asyncio stays in the control
plane. What a group can carry is declared by flags, each with a class of its own:

`Caps.BYTES`, `ByteGroup`: *parts*, the unit of exact length. `send([a, b], dst)` sends two parts, scatter-gather,
without building a copy; the peer takes each with one `recv_into` of precisely its length. What a part means
(header, tensor) is agreed above, in `nova.wire.tensor`.

`Caps.ARRAYS`, `ArrayGroup`: MLX arrays, where nothing but the two ends knows shape and dtype. The runtime forms such
a group beside a byte group, its *side channel*: headers go there first, so that both ends agree on every transfer,
nobody spins while nothing is under way, and a peer's death is seen.

`Caps.COLLECTIVES`, `CollectiveGroup`: what tensor parallelism inside a model needs.

`plugins/README.md` is the author's guide; its numbered clauses are this contract, and `nova.testing` holds plugins
to it.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from nova.clock import Deadline

API_VERSION = (1, 0)
"""Major must equal a plugin's, minor must not be lower than the plugin's."""

MAX_CARD_BYTES = 64 * 1024

Buffer = bytes | bytearray | memoryview
WritableBuffer = bytearray | memoryview


class Caps(enum.Flag):
    """What a transport promises. Every flag that is set is held to it by the conformance kit."""

    BYTES = enum.auto()  # the group is a ByteGroup
    ARRAYS = enum.auto()  # the group is an ArrayGroup
    COLLECTIVES = enum.auto()  # the group is a CollectiveGroup
    ANY_PAIR = enum.auto()  # any two ranks; without it, ring neighbours only
    DEADLINE = enum.auto()  # honours deadlines inside calls; without it the engine must be killed
    ABORT = enum.auto()  # abort() wakes blocked calls
    PEER_FAILURE = enum.auto()  # a peer's death raises PeerLost
    REFORM = enum.auto()  # a second group in one process is possible
    FULL_DUPLEX = enum.auto()  # sending and receiving at once, from two threads; without it one waits for the other
    AUTHENTICATED = enum.auto()  # both ends proved that they hold the group's ticket
    ENCRYPTED = enum.auto()
    INTER_HOST = enum.auto()


@dataclass(frozen=True)
class Attachment:
    """One way this node is attached. Two nodes reach each other iff they share a `domain` string.

    `loopback/<machine>`, `ip4/<network>`, `ip6/<network>` and `tb/<uuid>-<uuid>` (a Thunderbolt cable, its two ends
    sorted) are the domains that policies know. Latency (one way) and bandwidth are estimates until a group has
    measured them. `interface` is for people.
    """

    domain: str
    address: str
    latency_s: float
    bandwidth_bytes_s: float
    interface: str = ""


@dataclass(frozen=True)
class TransportInfo:
    """A probe's answer: what this transport can do on this machine."""

    name: str
    version: str
    api: tuple[int, int]
    caps: Caps
    attachments: tuple[Attachment, ...]
    collectives: tuple[str, ...] = ()
    """What `CollectiveGroup.collectives` will hold: names of functions in `mlx.core.distributed`."""
    alike: Mapping[str, str] = field(default_factory=dict)
    """What must be equal on all nodes of a group, such as {"mlx": "0.32.4"}; the coordinator compares it as text."""


@dataclass(frozen=True)
class Seat:
    """One engine's place in a group. `ticket` is a secret of this generation, the same for all ranks."""

    group: str
    generation: int
    rank: int
    size: int
    ticket: bytes = field(repr=False)
    hosts: tuple[str, ...] = ("127.0.0.1",)
    """The numeric addresses of this node that peers can dial, best first; listeners bind to these and no other."""


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
    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        """What it can do here, where `hosts` are the numeric addresses that this node offers to peers, best first.

        Bounded, without peers. One attachment for each address that this transport can use, in the same order.

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
    """Connected ranks of one generation. `caps` says which of the classes below it is as well.

    Any two threads may call at once; without FULL_DUPLEX one call waits for the other. After any error but a timeout
    at which nothing had moved, the group is broken for good.
    """

    rank: int
    size: int
    caps: Caps

    @abstractmethod
    def close(self, deadline: Deadline) -> None:
        """End gracefully: what was sent is flushed. Closes even if it fails to be graceful. Idempotent."""

    @abstractmethod
    def abort(self) -> None:
        """End at once; from any thread, never blocks, idempotent. With ABORT, blocked calls wake with GroupClosed."""


class ByteGroup(Group):
    """A group that moves parts of exact length."""

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


@runtime_checkable
class ArrayGroup(Protocol):
    """A group that moves MLX arrays. Both ends agree on shape and dtype before each transfer; nothing checks it here.

    Transfers from one rank to another arrive in order. Errors as for `ByteGroup`. Without DEADLINE a call may block
    for longer than its deadline, and whoever called is watched by a process that can end it.
    """

    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        """Send an evaluated, contiguous `mx.array`."""

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        """The next array from `src`, evaluated, of that shape and `mx.Dtype`."""


@runtime_checkable
class CollectiveGroup(Protocol):
    """A group on which MLX's own collective operations run, for tensor parallelism inside a model."""

    collectives: frozenset[str]
    """Names of functions in `mlx.core.distributed` that work: "all_sum", "all_gather", ..."""

    def native(self) -> Any:
        """The `mx.distributed.Group` of the same rank and size."""


Options = Mapping[str, object]
"""A plugin's options as they stand in a configuration file."""
