"""What `nova explain` tells somebody whose transport did not work."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from nova.cli.output import Explanation
from nova.cli.show_explain import explanation, headline, hint, time
from nova.wire.values import AttemptReport, CandidateReport, LinkReport, PhaseTime

NASTY = "[/usr/x] [Errno 111] [bold]refused[/bold]"


def explained(**changes: Any) -> Explanation:
    made = Explanation(
        state="serving", nodes=["a", "b"], transport="tcp",
        candidates=[
            CandidateReport("ring", "held", f"held back: {NASTY}", 30e-6, False, "tcp"),
            CandidateReport("tcp", "chosen", "", 52e-6, True),
            CandidateReport("zmq", "possible", "", 2.5e-3, False),
            CandidateReport("jaccl", "rejected", "unavailable on b: no Thunderbolt 5 port"),
        ],
        attempts=[
            AttemptReport(1, "ring", "tcp", 9.0, 0.25, "failed", "join", NASTY, [PhaseTime("start", 0.2)]),
            AttemptReport(
                2, "tcp", "", 8.0, 8.0, "serving", phases=[PhaseTime("boot", 1.25), PhaseTime("join", 0.002)],
                links=[LinkReport("a", "b", 45e-6, 3 << 30, 60e-6), LinkReport("b", "a", 46e-6, 1 << 30)],
            ),
        ],
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def shown(found: Explanation, width: int = 200) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(explanation(found))
    return out.getvalue()


def test_the_first_line_says_what_is_in_use_and_why_it_is_not_a_better_one() -> None:
    first = shown(explained(), width=400).splitlines()[0]
    assert first == f"serving over tcp between a, b: ring is held back: {NASTY}; rejected: jaccl"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"candidates": [CandidateReport("tcp", "chosen")]}, "serving over tcp between a, b: the first choice"),
        ({"nodes": ["a"]}, "serving on a alone, where no transport is needed"),
        ({"state": "forming"}, "forming over tcp between a, b"),
        ({"state": "waiting", "nodes": []}, "nothing is in use between no node: the deployment is waiting"),
        (
            {"state": "failed", "transport": ""},
            f"nothing is in use between a, b: ring failed in phase join: {NASTY}",
        ),
        (
            {"state": "failed", "attempts": [], "candidates": [CandidateReport("tcp", "rejected", "no")]},
            "nothing is in use between a, b: every transport is rejected",
        ),
    ],
)
def test_the_first_line_suits_the_state(changes: dict[str, Any], line: str) -> None:
    assert headline(explained(**changes)) == line


def test_every_candidate_attempt_phase_and_link_is_shown_newest_attempt_first() -> None:
    text = shown(explained())
    assert "52 us measured" in text
    assert "2.5 ms estimated" in text
    assert "unavailable on b: no Thunderbolt 5 port" in text
    assert text.index("generation 2 over tcp") < text.index("generation 1 over ring beside tcp")
    assert "boot 1.2 s, join 2.0 ms" in text
    assert "a to b: 45 us one way, 3072 MiB/s, of late 60 us" in text
    assert "b to a: 46 us one way, 1024 MiB/s" in text


def test_a_terminal_of_100_columns_loses_no_name_and_no_verdict() -> None:
    text = shown(explained(), width=100)
    assert all(len(line) <= 100 for line in text.splitlines())
    for word in ("ring", "held", "jaccl", "rejected", "52 us measured"):
        assert word in text


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0 us"), (45e-6, "45 us"), (0.0456, "45.6 ms"), (1.26, "1.3 s")])
def test_a_time_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert time(seconds) == text


def test_a_hint_names_what_failed_and_was_not_said_already() -> None:
    attempts = explained().attempts
    assert hint(attempts, "tcp") == f"ring failed in phase join: {NASTY}"
    assert hint(attempts, "ring") == ""
    assert hint(attempts, "", f"it ended: {NASTY}") == ""
    assert hint([], "tcp") == ""
