"""What an engine moves chunks over: one group, or a group of arrays with a group of bytes beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nova.transport.api import ArrayGroup, ByteGroup, Group


@dataclass(frozen=True)
class Lanes:
    """`frames` carries headers and all small things; hidden states go over `arrays` where that is not None.

    Only hidden states, because they flow from rank r to r+1 and never round the ring: no circle of ranks can come to
    wait for each other in calls that know no deadline.
    """

    frames: ByteGroup
    arrays: ArrayGroup | None = None
    groups: Sequence[Group] = ()

    @property
    def rank(self) -> int:
        return self.frames.rank

    @property
    def size(self) -> int:
        return self.frames.size

    def abort(self) -> None:
        """End all of it at once."""
        for group in self.groups:
            group.abort()
