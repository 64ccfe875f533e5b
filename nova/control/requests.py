"""Questions that await an answer, each with its deadline. Sans-I/O: fed with a clock reading in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from nova.errors import ControlError, NodeLost, RequestTimeout


@dataclass
class _Pending:
    awaited: str
    peer: str
    opened: float
    deadline: float
    progress: int = 0
    heard: float | None = None


class Requests:
    """Every request that was opened ends exactly once: resolved, expired or failed.

    `late` counts answers to requests that had already ended, or never were.
    """

    def __init__(self) -> None:
        self._pending: dict[str, _Pending] = {}
        self.late = 0

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, request: str) -> bool:
        return request in self._pending

    def open(self, request: str, awaited: str, peer: str, deadline: float, now: float) -> None:
        """Awaits `awaited` (for people: "status") from `peer` until `deadline`, a point in time.

        Raises ControlError if the id is in use.
        """
        if request in self._pending:
            raise ControlError(f"request id {request!r} is in use: choose a new one for each request")
        self._pending[request] = _Pending(awaited, peer, now, deadline)

    def progress(self, request: str, now: float) -> bool:
        """A part of the answer came. False, and counted, if nobody waits for it; the deadline stays."""
        pending = self._pending.get(request)
        if pending is None:
            self.late += 1
            return False
        pending.progress += 1
        pending.heard = now
        return True

    def resolve(self, request: str) -> bool:
        """The last of the answer came, or the asker gave up. False, and counted, if nobody waits for it."""
        if self._pending.pop(request, None) is None:
            self.late += 1
            return False
        return True

    def next_deadline(self) -> float | None:
        return min((pending.deadline for pending in self._pending.values()), default=None)

    def expire(self, now: float) -> list[tuple[str, RequestTimeout]]:
        """Ends every request whose deadline has come."""
        over = [request for request, pending in self._pending.items() if pending.deadline <= now]
        return [(request, _timeout(self._pending.pop(request), now)) for request in over]

    def fail_all(self, reason: str) -> list[tuple[str, NodeLost]]:
        """Ends every request: whoever was to answer is gone."""
        failed = [
            (request, NodeLost(f"{pending.awaited} from {pending.peer} lost: {reason}"))
            for request, pending in self._pending.items()
        ]
        self._pending.clear()
        return failed


def _timeout(pending: _Pending, now: float) -> RequestTimeout:
    if pending.heard is None:
        news = "nothing came"
    else:
        news = f"{pending.progress} messages came, the last {now - pending.heard:.1f} s ago"
    return RequestTimeout(f"no {pending.awaited} from {pending.peer} within {now - pending.opened:.1f} s: {news}")
