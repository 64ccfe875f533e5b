"""What came of a case, as it is printed and travels."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["passed", "failed", "skipped"]


class CaseResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One case on one transport: of one rank, or of all ranks together.

    `reason` is empty for a case that passed, the broken clause for one that failed, and the capability that is
    missing for one that was skipped.
    """

    transport: str
    version: str
    case: str
    clause: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All cases of one transport."""

    transport: str
    version: str
    caps: list[str]
    results: list[CaseResult]

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome == outcome for result in self.results)
