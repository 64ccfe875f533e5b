"""One rank of one case, wherever it runs; and the verdict over all ranks."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress

from nova.clock import monotonic
from nova.errors import FormingFailed
from nova.testing.case import Case
from nova.testing.cases import CASES
from nova.testing.checks import ClauseBroken, attempt, describe
from nova.testing.rank import Rank
from nova.testing.report import CaseResult, Outcome
from nova.transport.api import Caps, Options, Rendezvous, Seat, Transport
from nova.transport.registry import load_transport

TRANSFERS = Caps.BYTES | Caps.ARRAYS | Caps.COLLECTIVES


def cases_for(caps: Caps, slow: bool = False) -> list[Case]:
    """The cases that mean something for a transport that declares `caps`, in order of the contract."""
    return [case for case in CASES.values() if not case.missing(caps) and (slow or not case.slow)]


def run_case(
    name: str,
    transport: str,
    options: Options,
    seat: Seat,
    rendezvous: Rendezvous,
    caps: Caps | None = None,
) -> CaseResult:
    """Run one rank of a case in this process, with the seat and the rendezvous that the runner gives.

    `seat.size` is the case's number of ranks. `caps` is what the transport declares, None to ask it. The result is
    this rank's alone: `verdict` puts the ranks together.
    """
    case = CASES[name]
    loaded = attempt(lambda: load_transport(transport, options))
    error = loaded.exception()
    if error is not None:
        return CaseResult(transport, "", case.name, case.clause, "failed", describe(error))
    plugin = loaded.result()
    return run_rank(case, plugin, seat, rendezvous, plugin.probe(seat.hosts).caps if caps is None else caps)


def run_rank(case: Case, transport: Transport, seat: Seat, rendezvous: Rendezvous, caps: Caps) -> CaseResult:
    """As `run_case`, for a transport that is there already."""
    rank = Rank(transport, seat, rendezvous, caps)
    begun = monotonic()
    error = attempt(lambda: _run(case, rank)).exception()
    if error is None and rank.together and not case.dies:
        with suppress(FormingFailed):  # a rank that failed does not wait here, and says why itself
            rank.all_gather()  # nobody ends a group that others still use
    ended = attempt(rank.undo.close).exception()
    reason = "; ".join(_reason(each) for each in (error, ended) if each is not None)
    outcome: Outcome = "failed" if reason else "passed"
    return CaseResult(
        transport.name, transport.version, case.name, case.clause, outcome, reason, round(monotonic() - begun, 3)
    )


def _run(case: Case, rank: Rank) -> None:
    if case.needs & TRANSFERS and not case.joins:
        rank.form_group()
    case.run(rank)


def verdict(case: Case, transport: str, caps: Caps, results: Mapping[int, CaseResult | None]) -> CaseResult:
    """The ranks' results as one. None is a rank that ended, or was stuck and had to be ended, without a result.

    Pure, so that whoever runs the ranks elsewhere judges them alike.
    """
    reasons: list[str] = []
    given = [result for result in results.values() if result is not None]
    for rank, result in sorted(results.items()):
        if result is None and not case.may_end_silently(rank, caps):
            reasons.append(f"rank {rank}: it ended without a result, or was stuck until its time was over")
        elif result is not None and result.outcome == "failed":
            reasons.append(f"rank {rank}: {result.reason}")
    return CaseResult(
        transport,
        next((result.version for result in given), ""),
        case.name,
        case.clause,
        "failed" if reasons else "passed",
        "; ".join(reasons),
        max((result.seconds for result in given), default=0.0),
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, ClauseBroken):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{describe(error)} ({frame.filename.rpartition('/')[2]}:{frame.lineno})"
