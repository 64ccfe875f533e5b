"""The ranks of a case as threads of this process: quick, for transports whose every wait ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nova.clock import Deadline
from nova.testing.case import Case
from nova.testing.checks import Background
from nova.testing.meeting import Meeting, Place
from nova.testing.report import CaseResult
from nova.testing.run import run_rank, verdict
from nova.transport.api import Caps, Seat, Transport


def run_in_threads(
    case: Case, make: Callable[[], Transport], seats: Sequence[Seat], caps: Caps, limit_s: float
) -> CaseResult:
    """Every rank in a thread with a transport of its own. A thread that is stuck is left behind, and named."""
    meeting = Meeting(len(seats))
    transports = [make() for _ in seats]

    def run(transport: Transport, seat: Seat) -> CaseResult:
        try:
            return run_rank(case, transport, seat, Place(meeting, seat.rank), caps)
        finally:
            meeting.leave(seat.rank)

    calls = [
        Background(lambda transport=transport, seat=seat: run(transport, seat), f"nova-testing rank {seat.rank}")  # type: ignore[misc]
        for transport, seat in zip(transports, seats, strict=True)
    ]
    end = Deadline.after(limit_s)
    results = {
        seat.rank: call.result() if call.wait(end.remaining()) else None
        for seat, call in zip(seats, calls, strict=True)
    }
    return verdict(case, transports[0].name, caps, results)
