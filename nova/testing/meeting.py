"""The rendezvous of ranks whose runner is this process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from nova.clock import Deadline
from nova.errors import FormingFailed


class Meeting:
    """All-gathers between threads, one round after the other. Any thread may call any method."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = threading.Condition()
        self._rounds: list[dict[int, bytes]] = []
        self._gone: set[int] = set()

    def all_gather(self, rank: int, turn: int, blob: bytes, deadline: Deadline) -> list[bytes]:
        """Every rank's blob of this turn. Raises FormingFailed when a rank has left, or at the deadline."""
        with self._changed:
            self._rounds += [{} for _ in range(len(self._rounds), turn + 1)]
            blobs = self._rounds[turn]
            blobs[rank] = blob
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(blobs) == self._size or self._gone - blobs.keys(), deadline.remaining())
            if len(blobs) == self._size:
                return [blobs[each] for each in range(self._size)]
            missing = sorted(set(range(self._size)) - blobs.keys())
            left = [each for each in missing if each in self._gone]
        why = f"rank {left[0]} has left the case" if left else f"rank {missing[0]} did not come in time"
        raise FormingFailed("meet", "conformance", rank, why)

    def leave(self, rank: int) -> None:
        """This rank comes to no further turn."""
        with self._changed:
            self._gone.add(rank)
            self._changed.notify_all()


@dataclass
class Place:
    """One rank's side of a meeting: its `Rendezvous`. Used by one thread."""

    meeting: Meeting
    rank: int
    turn: int = field(default=0, init=False)

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        self.turn += 1
        return self.meeting.all_gather(self.rank, self.turn - 1, blob, deadline)
