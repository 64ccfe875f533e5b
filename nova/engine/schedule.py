"""Which request's chunk goes round next, and how many may be under way at once. Pure.

The bound is the whole ring's, not a request's: S + 1 chunks keep every one of S stages busy, and every stage can
hold that many, so its receiver always reads and no two neighbours can wait for each other's sends. Requests take
turns, chunk by chunk: a long prompt does not hold up another request's next token by more than one of its pieces.
"""

from __future__ import annotations

from collections import deque

from nova.engine.driver import Driver, Plan


def window(stages: int) -> int:
    """Chunks that may be under way in a ring of so many stages."""
    return stages + 1


class Schedule:
    """The drivers of all requests that are worked on, by stream."""

    def __init__(self, limit: int) -> None:
        self.drivers: dict[int, Driver] = {}
        self._turns: deque[int] = deque()
        self._limit = limit
        self.under_way = 0
        """Chunks that were sent and have not landed."""

    def add(self, stream: int, driver: Driver) -> None:
        self.drivers[stream] = driver
        self._turns.append(stream)

    def remove(self, stream: int) -> None:
        """The request is over; what it has under way still lands."""
        del self.drivers[stream]
        self._turns.remove(stream)

    def next(self) -> tuple[int, Plan] | None:
        """The next chunk to send and its stream, or None until something has landed or come in."""
        if self.under_way >= self._limit:
            return None
        for _ in range(len(self._turns)):
            stream = self._turns[0]
            self._turns.rotate(-1)
            plan = self.drivers[stream].next()
            if plan is not None:
                self.under_way += 1
                return stream, plan
        return None

    def landed(self) -> None:
        """A chunk has crossed all stages, whosesoever it was."""
        self.under_way -= 1
