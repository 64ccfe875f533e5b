"""Which requests decode together: groups that follow each other through the stages. Pure.

All members of a group make one step in one chunk, and each stage keeps one batch of caches for it; so members stay
together, and whoever joins or leaves does so between two chunks of the group.

Texts are in one group only if their batch wastes little on padding (`engine/padding.py`); where lengths differ much,
there are more groups than the pace of the stages asks for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil

from nova.engine.padding import Size
from nova.plan.costs import Costs, micro_batches
from nova.wire.rows import MAX_ROWS

CYCLES = 8
"""Rounds of a group after which the number of groups is thought over, although nobody came or went."""


class Groups:
    """The decoding requests of a pipeline, in at most `most` groups. `length` tells how many positions of a stream
    have been sent."""

    def __init__(self, costs: Costs, most: int, length: Callable[[int], int]) -> None:
        self._costs = costs
        self._most = most
        self._length = length
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
        while True:
            self._place(target)
            if not self._ready:
                return None
            group = self._ready.popleft()
            if not self._dissolved(group, target):
                self._give_up(group, target)
                self._fill(group, target)
                if members := self._members[group]:
                    return group, list(members)
            del self._members[group]

    def _decide(self) -> int:
        """How many groups there are to be, if lengths do not ask for more."""
        if self.streams and (self.streams != self._target_for or self._chunks_left <= 0):
            target = micro_batches(self._costs, self.streams, self._most, self._target)
            self._target = max(target, min(ceil(self.streams / MAX_ROWS), self._most))
            self._target_for = self.streams
            self._chunks_left = CYCLES * self._target
        return self._target

    def _quota(self, group: int, target: int) -> int:
        """As even as can be: where the division leaves a rest, so many groups have one more."""
        return self._quotas([group], target)[group]

    def _quotas(self, groups: Iterable[int], target: int) -> dict[int, int]:
        base, rest = divmod(self.streams, target)
        larger = sum(len(members) > base for members in self._members.values())

        def quota(group: int) -> int:
            others = larger - (len(self._members[group]) > base)
            return min(base + (others < rest), MAX_ROWS)

        return {group: quota(group) for group in groups}

    def _size(self, streams: Sequence[int]) -> Size:
        return Size.of([self._length(stream) for stream in streams])

    def _place(self, target: int) -> None:
        """Open the next group that is to be, or see to it that all in the pool will have one.

        Nobody starves: for whom no group has room, one is opened, and when there are `most`, it joins the one that is
        over its bound the least with it, which is one over its quota as long as any can take it within the bound.
        """
        if not self._pool:
            return
        sizes = {group: self._size(members) for group, members in self._members.items()}
        quotas = self._quotas(self._members, target)

        def fits(stream: int) -> bool:
            return any(size.takes(self._length(stream)) for size in sizes.values())

        for stream in sorted(self._pool, key=fits):  # first those whom none can take
            if len(self._members) < (target if fits(stream) else self._most):
                self._numbers += 1
                self._members[self._numbers] = []
                self._ready.append(self._numbers)  # behind those that are ready: nobody is overtaken
                self._move(stream, self._numbers)
                return  # the others may join it
            length = self._length(stream)
            if any(size.takes(length, quotas[group]) for group, size in sizes.items()):
                continue  # it waits for one of them to land
            room = [group for group, size in sizes.items() if size.rows < MAX_ROWS]
            if room:
                group = min(room, key=lambda each: (sizes[each].plus(length).excess, sizes[each].rows))
                sizes[group] = sizes[group].plus(length)
                self._move(stream, group)

    def _dissolved(self, group: int, target: int) -> bool:
        """Whether it is one too many and all its members, who are in the pool then, have a place in the others."""
        members = self._members[group]
        if len(self._members) <= target or len(self._housed(members, group)) < len(members):
            return False
        for stream in list(members):
            self._move(stream, 0)
        return True

    def _give_up(self, group: int, target: int) -> None:
        """Back to the pool with those who are over the group's bound or its share, if there is another place for
        them: else they would only come back."""
        members = self._members[group]
        late = members[self._quota(group, target) :]
        if len(self._members) > target:
            late = []  # who would go to a group that is one too many might meet its members on their way back
        elif len(self._members) == target:
            late = self._housed(late, group, self._quotas(self._members, target))
        misfits = self._misfits([stream for stream in members if stream not in late])
        if len(self._members) >= self._most:
            misfits = self._housed(misfits, group)
        for stream in [each for each in members if each in late or each in misfits]:
            self._move(stream, 0)

    def _misfits(self, members: Sequence[int]) -> list[int]:
        """Those without whom the batch is within its bound. It can be over it when others have left, or leave."""
        if not self._size(members).excess:
            return []
        size, misfits = Size(), []
        for stream in members:
            if size.takes(length := self._length(stream)):
                size = size.plus(length)
            else:
                misfits.append(stream)
        return misfits

    def _housed(self, streams: Sequence[int], group: int, rows: Mapping[int, int] | None = None) -> list[int]:
        """Those of a group's streams who find a place in the others, one behind the other, where these have at most
        so many `rows`."""
        if not streams:
            return []
        sizes = {other: self._size(members) for other, members in self._members.items() if other != group}
        limits, housed = rows or dict.fromkeys(sizes, MAX_ROWS), []
        for stream in streams:
            length = self._length(stream)
            place = next((other for other, size in sizes.items() if size.takes(length, limits[other])), None)
            if place is not None:
                sizes[place] = sizes[place].plus(length)
                housed.append(stream)
        return housed

    def _fill(self, group: int, target: int) -> None:
        """From the pool, the oldest first of those that keep the batch within its bound."""
        quota, size = self._quota(group, target), self._size(self._members[group])
        for stream in list(self._pool):
            if size.rows >= quota:
                return
            if size.takes(length := self._length(stream), quota):
                size = size.plus(length)
                self._move(stream, group)

    def _move(self, stream: int, group: int) -> None:
        """To another group, 0 for the pool."""
        home = self._home[stream]
        (self._members[home] if home else self._pool).remove(stream)
        (self._members[group] if group else self._pool).append(stream)
        self._home[stream] = group
