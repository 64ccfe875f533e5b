"""What a case is given: one rank's seat, its transport, and the ways to meet the other ranks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.testing.checks import SOON_S, check, soon
from nova.testing.leaks import held, settles
from nova.transport.api import (
    ArrayGroup,
    ByteGroup,
    Caps,
    CollectiveGroup,
    Endpoint,
    Group,
    Rendezvous,
    Seat,
    Transport,
)

JOIN_S = 20.0
"""s; for a join that must succeed. MLX's ring needs more than a second when its peers are late."""

LATE_S = 0.3
"""s; the deadline of a join that cannot succeed."""


class Rank:
    """One rank of a running case. What it opened and joined ends with the case."""

    def __init__(self, transport: Transport, seat: Seat, rendezvous: Rendezvous, caps: Caps) -> None:
        self.transport = transport
        self.seat = seat
        self.caps = caps
        """What the transport declares."""
        self.undo = ExitStack()
        self.together = True
        """False once a join has failed: the ranks have parted then, and do not wait for each other at the end."""
        self._rendezvous = rendezvous
        self._group: Group | None = None

    @property
    def rank(self) -> int:
        return self.seat.rank

    @property
    def size(self) -> int:
        return self.seat.size

    @property
    def right(self) -> int:
        return (self.rank + 1) % self.size

    @property
    def left(self) -> int:
        return (self.rank - 1) % self.size

    def all_gather(self, blob: bytes = b"", within_s: float = SOON_S) -> list[bytes]:
        """Every rank's blob, by rank; a barrier as well. Raises FormingFailed when a rank has left the case."""
        return _Tagged(b"case", self._rendezvous, self.rank).all_gather(blob, soon(within_s))

    def open(self, seat: Seat | None = None) -> Endpoint:
        endpoint = self.transport.open(seat or self.seat)
        self.undo.callback(endpoint.close)
        return endpoint

    def join(self, endpoint: Endpoint, cards: Sequence[bytes], within_s: float = JOIN_S) -> Group:
        try:
            group = endpoint.join(cards, _Tagged(b"join", self._rendezvous, self.rank), soon(within_s))
        except FormingFailed:
            self.together = False
            raise
        self.undo.callback(group.abort)
        return group

    def form(self, generation: int = 1) -> Group:
        """A group of all ranks, formed as an engine does."""
        endpoint = self.open(replace(self.seat, generation=generation))
        group = self.join(endpoint, self.all_gather(endpoint.card()))
        endpoint.close()
        return group

    @property
    def group(self) -> Group:
        """The group of this case. It is there from the start where the case needs BYTES, ARRAYS or COLLECTIVES;
        else it is formed when it is first asked for, and all ranks must ask at the same step."""
        return self._group or self.form_group()

    def use(self, group: Group) -> None:
        """Make this, which the case has joined by itself, its group."""
        self._group = group

    def form_group(self) -> Group:
        """Form the group of this case. All ranks return from here together."""
        self._group = self.form()
        self.all_gather()
        return self._group

    @property
    def parts(self) -> ByteGroup:
        """The group, for a case that needs BYTES."""
        check(isinstance(self.group, ByteGroup), f"BYTES is declared, and {type(self.group).__name__} moves no bytes")
        assert isinstance(self.group, ByteGroup)
        return self.group

    @property
    def arrays(self) -> ArrayGroup:
        """The group, for a case that needs ARRAYS."""
        group: object = self.group
        check(isinstance(group, ArrayGroup), f"ARRAYS is declared, and {type(group).__name__} moves no arrays")
        assert isinstance(group, ArrayGroup)
        return group

    @property
    def collective(self) -> CollectiveGroup:
        """The group, for a case that needs COLLECTIVES."""
        group: object = self.group
        check(isinstance(group, CollectiveGroup), f"COLLECTIVES is declared, and {type(group).__name__} has none")
        assert isinstance(group, CollectiveGroup)
        return group

    @contextmanager
    def nothing_left(self) -> Iterator[None]:
        """No descriptor, thread or child more after the body than before, once the system had a moment to end them.

        All ranks pass here together, because they may share a process.
        """
        self.all_gather()
        before = held()
        self.all_gather()
        yield
        self.all_gather()
        after = settles(before)
        check(after <= before, f"left behind: {after.above(before)}")
        self.all_gather()

    def die(self) -> None:
        """End this process as `kill -9` does."""
        os.kill(os.getpid(), signal.SIGKILL)


class _Tagged:
    """A rendezvous that is not taken for another: the case and the transport's join use the same one."""

    def __init__(self, tag: bytes, rendezvous: Rendezvous, rank: int) -> None:
        self._tag = tag
        self._rendezvous = rendezvous
        self._rank = rank

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        blobs = self._rendezvous.all_gather(self._tag + blob, deadline)
        strays = [rank for rank, each in enumerate(blobs) if not each.startswith(self._tag)]
        if strays:
            raise FormingFailed("join", "conformance", self._rank, f"rank {strays[0]} is at another step")
        return [each[len(self._tag) :] for each in blobs]
