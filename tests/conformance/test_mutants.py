"""Every defect is seen by the case of its clause, and by no other: the kit bites, and says where."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from nova.testing.case import Case
from nova.testing.cases import CASES
from nova.testing.harness import Harness
from nova.testing.report import CaseResult
from nova.transport.memory import MemoryTransport

from .mutants.base import leaked, maker, released
from .mutants.every import MUTANTS

LIMIT_S = 3.5
"""s; a case that is stuck has failed. The quick ones take less than one."""

WORKERS = 12
"""Cases at a time. They mostly wait, and too many would make each other late."""

ALONE = ("P4", "L2", "L8", "L9", "I6", "I7")
"""Clauses that look at what this whole process holds, or at its ports: nothing else may run beside them."""


def run(mutant: str, case: Case) -> tuple[str, CaseResult]:
    defect, _ = MUTANTS[mutant]
    make = maker(defect)  # a hub of its own
    return mutant, Harness(make().name, make=make, limit_s=LIMIT_S).run(case)


def has_its_own_module(mutant: str) -> bool:
    """K3 looks at the transport's module only, and most mutants have the same."""
    return issubclass(MUTANTS[mutant][0], MemoryTransport)


@pytest.fixture(scope="module")
def failed() -> Iterator[dict[str, dict[str, str]]]:
    """For each mutant the cases that failed, with their reasons; every case runs on every mutant."""
    cases = [case for case in CASES.values() if not case.processes and not case.slow]
    jobs = [(mutant, case) for case in cases for mutant in MUTANTS if case.clause != "K3" or has_its_own_module(mutant)]
    found: dict[str, dict[str, str]] = {mutant: {} for mutant in MUTANTS}
    try:
        results = [run(*job) for job in jobs if job[1].clause in ALONE]
        with ThreadPoolExecutor(WORKERS) as pool:
            results += pool.map(lambda job: run(*job), [job for job in jobs if job[1].clause not in ALONE])
        for mutant, result in results:
            if result.outcome == "failed":
                found[mutant][result.case] = result.reason
        yield found
    finally:
        released.set()
        while leaked:
            os.close(leaked.pop())


@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_a_defect_fails_its_case_and_no_other(failed: dict[str, dict[str, str]], mutant: str) -> None:
    _, wanted = MUTANTS[mutant]
    assert failed[mutant].keys() == wanted, failed[mutant]
