"""Every defect is seen by the case of its clause, and by no other: the kit bites, and says where."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

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

ALONE = ("P4", "L2", "L8", "L9", "I6", "I7")
"""Clauses that look at what a whole process holds, or at its ports: nothing else may run beside them."""

PROCESSES, THREADS = 4, 10
"""At a time, for a share of the mutants, and for the cases of one share. They mostly wait; more would be late."""

Failed = dict[str, dict[str, str]]
"""By mutant: the cases that failed, with their reasons."""


def run(mutant: str, case: Case) -> tuple[str, CaseResult]:
    defect, _ = MUTANTS[mutant]
    make = maker(defect)  # a hub of its own
    return mutant, Harness(make().name, make=make, limit_s=LIMIT_S).run(case)


def run_share(mutants: Sequence[str]) -> Failed:
    """Every case that ranks can run as threads, on each of these mutants. Runs in a process of its own."""
    cases = [case for case in CASES.values() if not case.processes and not case.slow]
    jobs = [(mutant, case) for case in cases for mutant in mutants if case.clause != "K3" or has_its_own_module(mutant)]
    failed: Failed = {mutant: {} for mutant in mutants}
    try:
        results = [run(*job) for job in jobs if job[1].clause in ALONE]
        with ThreadPoolExecutor(THREADS) as pool:
            results += pool.map(lambda job: run(*job), [job for job in jobs if job[1].clause not in ALONE])
    finally:
        released.set()
        while leaked:
            os.close(leaked.pop())
    for mutant, result in results:
        if result.outcome == "failed":
            failed[mutant][result.case] = result.reason
    return failed


def has_its_own_module(mutant: str) -> bool:
    """K3 looks at the transport's module only, and most mutants have the same."""
    return issubclass(MUTANTS[mutant][0], MemoryTransport)


@pytest.fixture(scope="module")
def failed() -> Failed:
    names = list(MUTANTS)
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        shares = pool.map(run_share, [names[each::PROCESSES] for each in range(PROCESSES)], timeout=240)
        return {mutant: cases for share in shares for mutant, cases in share.items()}


@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_a_defect_fails_its_case_and_no_other(failed: Failed, mutant: str) -> None:
    _, wanted = MUTANTS[mutant]
    assert failed[mutant].keys() == wanted, failed[mutant]
