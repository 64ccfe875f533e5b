"""The contract in plugins/README.md, the kit's cases and the mutants speak of the same clauses."""

from __future__ import annotations

import re

import pytest

from nova.testing.case import TOPICS, Case, add
from nova.testing.cases import CASES
from nova.testing.run import cases_for
from nova.transport.api import Caps
from tests.structure.project import ROOT

from .mutants.every import MUTANTS

UNPROVEN = {
    "T14": "it takes 5 GiB of memory",
    "A10": "it takes 7 GiB of memory",
    "F8": "a peer's process is killed: test_runners.py has a defect for it",
    "F9": "as F8",
    "F10": "as F8",
    "F11": "as F8",
}
"""Clauses whose cases no mutant of the memory transport can fail -> why."""


def written() -> set[str]:
    text = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8").partition("\n## The contract\n")[2]
    return set(re.findall(r"\*\*([A-Z]\d+)\*\*", text))


def test_every_clause_has_a_case_and_every_case_its_clause() -> None:
    assert written() == {case.clause for case in CASES.values()}


def test_every_case_says_what_it_holds() -> None:
    assert [case.name for case in CASES.values() if not case.promise.endswith(".")] == []
    assert all(case.topic for case in CASES.values())


def test_every_clause_has_a_mutant_or_a_reason() -> None:
    proven = {name.partition("_")[0] for _, wanted in MUTANTS.values() for name in wanted}
    assert {case.clause for case in CASES.values()} - proven == UNPROVEN.keys()


def test_cases_come_in_the_order_of_the_contract() -> None:
    order = [(list(TOPICS).index(case.name[0]), int(case.clause[1:])) for case in CASES.values()]
    assert order == sorted(order)


def test_two_cases_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two cases are called K1_"):
        add(next(iter(CASES.values())))


def test_a_case_runs_where_its_capabilities_are_declared() -> None:
    case = Case("T99_example", lambda rank: None, "", needs=Caps.BYTES | Caps.ABORT, lacks=Caps.REFORM)
    assert case.missing(Caps.BYTES | Caps.ABORT) == ""
    assert case.missing(Caps.ABORT | Caps.REFORM) == "lacks BYTES, has REFORM"
    arrays_only = cases_for(Caps.ARRAYS | Caps.INTER_HOST)
    assert {"A1", "L5", "K1", "H4"} <= {case.clause for case in arrays_only}
    assert not {"T1", "T14", "A6", "L7", "F8"} & {case.clause for case in arrays_only}
