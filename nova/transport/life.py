"""Whether a group may still be used, and when its resources may go.

A group is whole, then broken or closed; it never goes back. Every call of `send` and `recv_into` runs inside
`with life:`, so that `abort` from another thread can wake the calls in flight, and the last of them to leave
releases what they were using. Nothing is freed under the feet of a call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from nova.errors import GroupBroken, GroupClosed, TransportError


class Life:
    """The life of one group. Any thread may call any method."""

    def __init__(self, wake: Callable[[], None], release: Callable[[], None]) -> None:
        """`wake` makes blocked calls return and must not block; `release` frees everything and is called once."""
        self._wake = wake
        self._release = release
        self._lock = threading.Lock()
        self.inside: list[None] = []  # one per call in flight; append and pop are atomic, and need no lock
        self.over = False
        """Broken or closed."""
        self._closed = False
        self._released = False
        self._fault: TransportError | None = None

    def __enter__(self) -> None:
        """Enter a call. Raises GroupClosed or GroupBroken."""
        self.inside.append(None)  # before the look at over: close sets over before it looks here
        if self.over:
            self.__exit__()
            self.check()

    def __exit__(self, *_: object) -> None:
        self.inside.pop()
        if self.over:
            self.leave()

    def check(self) -> None:
        """Raises GroupClosed or GroupBroken, for a call that was woken."""
        if self._closed:
            raise GroupClosed("this group was closed on our side")
        if self._fault is not None:
            raise GroupBroken(f"this group broke earlier: {self._fault}") from self._fault

    def broke(self, error: TransportError) -> TransportError:
        """Break the group. Returns the error to raise: after a close on our side, what failed is only its echo."""
        with self._lock:
            if self._closed:
                return GroupClosed(str(error))
            if self._fault is None:
                self._fault = error
                self.over = True
            return error

    def close(self) -> bool:
        """Close; false when that happened before. Blocked calls wake, resources go when the last one has left."""
        with self._lock:
            if self._closed:
                return False
            self._closed = self.over = True
            self._wake()
        self.leave()
        return True

    def leave(self) -> None:
        """A call has left a group that is over: the last one frees what they were using."""
        with self._lock:
            last = self._closed and not self.inside and not self._released
            self._released |= last
        if last:
            self._release()
