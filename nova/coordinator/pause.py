"""Pauses between attempts: twice as long after each failure, up to a limit. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DOUBLINGS = 32
"""A pause has reached its limit long before; without a bound its power of two would outgrow a float."""


def doubled(first_s: float, times: int, longest_s: float) -> float:
    """A pause of `first_s` doubled so many times."""
    return min(longest_s, first_s * 2.0 ** min(times, MAX_DOUBLINGS))


@dataclass
class Pause:
    """Nothing is tried before `until`. `failures` are those since something last went well."""

    first_s: float
    longest_s: float
    failures: int = 0
    until: float = 0.0

    def failed(self, now: float) -> None:
        self.until = now + doubled(self.first_s, self.failures, self.longest_s)
        self.failures += 1

    def cut(self, now: float) -> None:
        """The next attempt is made at once."""
        self.until = min(self.until, now)
