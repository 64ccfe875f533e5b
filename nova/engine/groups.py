"""Which requests decode together: groups that follow each other through the stages. Pure.

All members of a group make one step in one chunk, and each stage keeps one batch of caches for it; so members stay
together, and whoever joins or leaves does so between two chunks of the group.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from nova.plan.costs import Costs, micro_batches
from nova.wire.rows import MAX_ROWS

CYCLES = 8
"""Rounds of a group after which the number of groups is thought over, although nobody came or went."""


class Groups:
    """The decoding requests of a pipeline, in at most `most` groups."""

    def __init__(self, costs: Costs, most: int) -> None:
        self._costs = costs
        self._most = most
        self._members: dict[int, list[int]] = {}
        self._home: dict[int, int] = {}
        """Stream -> its group; 0 is the pool."""
        self._ready: deque[int] = deque()
        self._pool: deque[int] = deque()
        self._numbers = 0
        self._target = 0
        self._target_for = 0
        self._chunks_left = 0

    def __len__(self) -> int:
        return len(self._members)

    @property
    def streams(self) -> int:
        """Requests that decode, in a group or waiting for one."""
        return len(self._home)

    @property
    def largest(self) -> int:
        """Rows of the largest group, 0 without any."""
        return max(map(len, self._members.values()), default=0)

    def join(self, stream: int) -> None:
        self._home[stream] = 0
        self._pool.append(stream)

    def leave(self, stream: int) -> None:
        """The request is over. Idempotent."""
        group = self._home.pop(stream, None)
        if group is not None:
            (self._members[group] if group else self._pool).remove(stream)

    def landed(self, group: int) -> None:
        """The group's chunk has crossed all stages."""
        self._ready.append(group)
        self._chunks_left -= 1

    def next(self) -> tuple[int, list[int]] | None:
        """A group that is to make a step and its members, who went on before who joined; None when all are under
        way."""
        target = self._decide()
        if self._pool and len(self._members) < target:  # it queues behind those that are ready: nobody is overtaken
            self._numbers += 1
            self._members[self._numbers] = []
            self._ready.append(self._numbers)
        while self._ready:
            group = self._ready.popleft()
            quota = self._quota(group, target) if len(self._members) <= target else 0
            members = self._members[group]
            self._pool.extend(members[quota:])
            self._home.update(dict.fromkeys(members[quota:], 0))
            del members[quota:]
            while len(members) < quota and self._pool:
                self._home[self._pool[0]] = group
                members.append(self._pool.popleft())
            if members:
                return group, list(members)
            del self._members[group]
        return None

    def _decide(self) -> int:
        """How many groups there are to be."""
        if self.streams and (self.streams != self._target_for or self._chunks_left <= 0):
            target = micro_batches(self._costs, self.streams, self._most, self._target)
            self._target = max(target, min(ceil(self.streams / MAX_ROWS), self._most))
            self._target_for = self.streams
            self._chunks_left = CYCLES * self._target
        return self._target

    def _quota(self, group: int, target: int) -> int:
        """As even as can be: where the division leaves a rest, so many groups have one more."""
        base, rest = divmod(self.streams, target)
        larger = sum(len(members) > base for other, members in self._members.items() if other != group)
        return min(base + (larger < rest), MAX_ROWS)
