"""How long to wait before dialling again: exponential, with full jitter.

libzmq's own reconnection does not do: it ends with a handshake that was refused, its jitter adds to a pause that is
the same for all, and messages queued for one session would go to the next. So each attempt is a fresh socket, and
two hundred workers whose coordinator restarts spread over the whole pause instead of arriving together.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Pauses drawn evenly from [0, ceiling], where the ceiling doubles from `first_s` up to `longest_s`."""

    def __init__(self, first_s: float, longest_s: float, draw: Callable[[], float] = random.random) -> None:
        self._first = min(first_s, longest_s)
        self._longest = longest_s
        self._draw = draw
        self._ceiling = self._first

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        pause = self._draw() * self._ceiling
        self._ceiling = min(self._ceiling * 2, self._longest)
        return pause

    def reset(self) -> None:
        """An attempt succeeded: the next failure begins with the first pause again."""
        self._ceiling = self._first
