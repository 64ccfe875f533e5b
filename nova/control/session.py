"""One peer's session as the coordinator knows it, and what can happen to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from nova.control.link import Link, outside
from nova.control.liveness import NANO, Pulse
from nova.wire.codec import Frames
from nova.wire.messages import Hello, Message

SessionId = NewType("SessionId", int)
"""Rises with each session and is never used again while the coordinator lives."""


class Session:
    """A peer that was admitted and said Hello. Read only for everybody but the table it stands in."""

    def __init__(self, id: SessionId, routing_id: bytes, user: str, hello: Hello, link: Link, pulse: Pulse) -> None:
        self.id = id
        self.user = user
        """The name that the peer's key is trusted under."""
        self.hello = hello
        self.offers = hello.offers
        """A worker's transports: those of its Hello, until it says that they have changed."""
        self.routing_id = routing_id
        self.link = link
        self.pulse = pulse

    @property
    def name(self) -> str:
        """A worker's name is its key's; a client names itself."""
        return self.hello.name

    @property
    def role(self) -> str:
        """ "worker" or "client"."""
        return self.hello.role

    def age(self, now: float) -> float:
        """Seconds since the peer was last heard."""
        return max(0.0, now - self.pulse.liveness.last_heard)

    @property
    def rtt_s(self) -> float | None:
        """Least round trip of late, in seconds; None before the first measurement."""
        rtt = self.pulse.clock.rtt_ns
        return None if rtt is None else rtt / NANO

    @property
    def clock_offset_ns(self) -> int | None:
        """Peer's monotonic clock minus ours, right within half a round trip; None before the first measurement."""
        return self.pulse.clock.offset_ns

    def __repr__(self) -> str:
        return f"Session({self.id}, {self.role} {self.name!r})"


@dataclass(frozen=True)
class Joined:
    session: Session


@dataclass(frozen=True)
class Left:
    session: Session
    why: str


@dataclass(frozen=True)
class Received:
    session: Session
    message: Message


@dataclass(frozen=True)
class Reply:
    """A message to be sent; `session` is None for a Refused, which answers somebody who has none.

    It is numbered when it is sent: a handler may send between the making of two replies and their sending, and a
    number given out early would then arrive late and be dropped.
    """

    routing_id: bytes
    message: Message
    session: Session | None = None

    def encode(self) -> Frames:
        """To be sent at once. Raises ProtocolError if the message is too large."""
        return outside(self.message) if self.session is None else self.session.link.encode(self.message)


@dataclass(frozen=True)
class Dropped:
    """A drop worth a line in the log: the 1st, 2nd, 4th, 8th ... of a peer and cause. `count` is the number so far."""

    cause: str
    user: str
    detail: str
    count: int


Event = Joined | Left | Received | Reply | Dropped
