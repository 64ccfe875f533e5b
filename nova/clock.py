"""Time as a value that is passed in: a monotonic clock and deadlines on it.

Only the monotonic clock is used for decisions. Tests pass a `FakeClock`, so no test sleeps to see time pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns monotonic seconds."""

monotonic: Clock = time.monotonic


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Deadline:
    """A point in time by which a whole job must be done; retries happen inside it, never beyond."""

    __slots__ = ("_clock", "at")

    def __init__(self, at: float, clock: Clock = monotonic) -> None:
        self.at = at
        self._clock = clock

    @classmethod
    def after(cls, seconds: float, clock: Clock = monotonic) -> Deadline:
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        left = self.at - self._clock()
        return left if left > 0.0 else 0.0

    @property
    def expired(self) -> bool:
        return self._clock() >= self.at

    def __repr__(self) -> str:
        return f"Deadline({self.remaining():.3f} s left)"
