"""The cases as pytest tests. A plugin's test module subclasses `TransportSuite` and gives it the fixture `harness`."""

from __future__ import annotations

import os

import pytest

from nova.testing.case import Case
from nova.testing.cases import CASES
from nova.testing.harness import Harness

SLOW = "NOVA_TESTING_SLOW"
"""Set in the environment, it adds the cases that need much time or memory."""


class TransportSuite:
    """One test for each case. A case is skipped only for a capability that the transport does not declare."""

    @pytest.fixture
    def harness(self) -> Harness:
        pytest.fail("give your class a fixture `harness` that returns Harness(your transport)", pytrace=False)

    @pytest.mark.parametrize(
        "case", [each for each in CASES.values() if os.environ.get(SLOW) or not each.slow], ids=lambda each: each.name
    )
    def test_clause(self, harness: Harness, case: Case) -> None:
        result = harness.run(case)
        if result.outcome == "skipped":
            pytest.skip(result.reason)
        if result.outcome == "failed":
            pytest.fail(f"{case.clause}: {case.promise}\n{result.reason}", pytrace=False)
