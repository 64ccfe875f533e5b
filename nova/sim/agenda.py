"""What is to happen, by its moment on the virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf


class Agenda:
    """What was noted first of the same moment comes first."""

    def __init__(self) -> None:
        self._noted = 0
        self._entries: list[tuple[float, int, Callable[[], None]]] = []

    @property
    def next_at(self) -> float:
        """Infinite where nothing is to happen."""
        return self._entries[0][0] if self._entries else inf

    def note(self, at: float, happens: Callable[[], None]) -> None:
        self._noted += 1
        heappush(self._entries, (at, self._noted, happens))

    def pop(self) -> Callable[[], None]:
        return heappop(self._entries)[2]
