"""The runners: whatever a transport does to its ranks, a case ends, says why, and leaves no process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from nova.clock import Deadline
from nova.errors import ConfigError, FormingFailed
from nova.testing.case import CASES, Case
from nova.testing.checks import Background, ClauseBroken, raises
from nova.testing.child import Job
from nova.testing.harness import Harness
from nova.testing.meeting import Meeting, Place
from nova.testing.report import CaseResult, Report
from nova.testing.run import run_case, verdict
from nova.transport.api import Caps, Seat
from tests.structure.project import ROOT
from tests.support import processes

INSTALLED = Path(__file__).parent / "mutants" / "installed"
MISSING_PEER = "L5_a_join_without_its_peer_ends"


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transports of mutants/outside.py, installed for this process and its children."""
    monkeypatch.syspath_prepend(str(INSTALLED))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(INSTALLED), str(ROOT)]))


def test_a_rank_that_may_be_stuck_is_killed_with_all_it_started_and_has_passed() -> None:
    harness = Harness("kit-stuck", ranks_as="processes", limit_s=3.0)
    begun = time.monotonic()
    result = harness.run(CASES[MISSING_PEER])
    assert result.outcome == "passed", result.reason
    assert 3.0 <= time.monotonic() - begun < 6.0, "they were stuck, until they were killed"


def test_a_rank_that_may_not_be_stuck_fails_its_case() -> None:
    harness = Harness("kit-stuck", ranks_as="processes", limit_s=3.0, expect=~(Caps.ARRAYS | Caps.COLLECTIVES))
    result = harness.run(CASES[MISSING_PEER])
    assert result.outcome == "failed"
    assert "rank 0: it ended without a result, or was stuck" in result.reason
    assert "rank 2: it ended without a result, or was stuck" in result.reason


def test_a_crash_is_a_reason_with_the_last_words_and_the_others_do_not_wait() -> None:
    begun = time.monotonic()
    result = Harness("kit-crash", ranks_as="processes").run(CASES["T1_a_part_arrives_exactly"])
    assert time.monotonic() - begun < 8
    assert result.outcome == "failed"
    assert "rank 1: it ended without a result" in result.reason
    assert "rank 1 said: the driver is upset" in result.reason
    assert "rank 0: " in result.reason
    assert "rank 1 has left the case" in result.reason


def test_what_a_transport_prints_does_not_disturb() -> None:
    result = Harness("kit-chatty", ranks_as="processes").run(CASES["T1_a_part_arrives_exactly"])
    assert result.outcome == "passed", result.reason


def test_an_unseen_death_fails_the_cases_of_lost_peers_and_no_other() -> None:
    harness = Harness("kit-deaf", limit_s=6.0)
    cases = [case for case in CASES.values() if case.clause[0] in "FN" and case.clause != "F3"]
    failed = {case.clause for case in cases if harness.run(case).outcome == "failed"}
    assert failed == {"F7", "F8", "F9", "F10", "F11"}


def test_a_rank_ends_when_its_runner_is_gone() -> None:
    job = Job("T3_order_is_kept", "tcp", {}, [], "g", 1, 0, 2, b"t" * 32, ["127.0.0.1"], 60.0)
    with subprocess.Popen(
        [sys.executable, "-m", "nova.testing.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(msgspec.json.encode(job) + b"\n")
        child.stdin.flush()
        assert child.stdout.readline(), "it opens, and asks for the cards"
        child.stdin.close()
        assert child.wait(10) == 1


def test_a_rank_that_holds_the_interpreter_s_lock_ends_after_its_limit() -> None:
    code = (
        "import ctypes, nova.testing.child as child, nova.testing.run as run\n"
        "child.GRACE_S = 0.0\n"
        "run.run_case = lambda *_: ctypes.PyDLL(None).sleep(1000)\n"
        "child.main()"
    )
    job = Job("K1", "tcp", {}, [], "g", 1, 0, 1, b"", ["127.0.0.1"], 1.0)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        assert child.stdin
        child.stdin.write(msgspec.json.encode(job) + b"\n")
        child.stdin.flush()
        assert child.wait(10) == -signal.SIGALRM


def test_a_case_of_processes_needs_a_transport_that_they_can_load() -> None:
    with pytest.raises(ConfigError, match="no other process can load it"):
        Harness("memory", make=lambda: None, expect=~Caps(0)).run(  # type: ignore[arg-type, return-value]
            CASES["F8_a_killed_peer_is_lost_to_a_waiting_receive_of_parts"]
        )


def test_ranks_that_can_be_stuck_must_be_processes() -> None:
    with pytest.raises(ConfigError, match="processes"):
        Harness("kit-stuck").run(CASES["T1_a_part_arrives_exactly"])


def test_a_transport_that_does_not_load_fails_with_the_reason() -> None:
    seat = Seat("g", 1, 0, 1, b"")
    result = run_case("K1_the_class_has_the_name_of_its_entry_point", "nothing", {}, seat, Place(Meeting(1), 0))
    assert (result.outcome, result.transport) == ("failed", "nothing")
    assert "no installed distribution provides it" in result.reason


def test_one_rank_runs_with_a_rendezvous_of_its_caller_and_asks_the_probe_for_capabilities() -> None:
    meeting = Meeting(2)
    calls = [
        Background(
            lambda rank=rank: run_case(  # type: ignore[misc]
                "T1_a_part_arrives_exactly", "tcp", {}, Seat("g", 1, rank, 2, b"t" * 32), Place(meeting, rank)
            )
        )
        for rank in range(2)
    ]
    assert [call.result().outcome for call in calls] == ["passed", "passed"]


EXAMPLE = Case("T98_example", lambda rank: None, "", dies=frozenset({1}), blocks=frozenset({2}))


def said(outcome: str, reason: str = "") -> CaseResult:
    return CaseResult("tcp", "1", "T98_example", "T98", outcome, reason, 0.5)  # type: ignore[arg-type]


def test_a_verdict_lets_only_those_end_silently_who_may() -> None:
    good = verdict(EXAMPLE, "tcp", Caps(0), {0: said("passed"), 1: None, 2: None})
    assert (good.outcome, good.version, good.seconds) == ("passed", "1", 0.5)
    honours_deadlines = verdict(EXAMPLE, "tcp", Caps.DEADLINE, {0: said("passed"), 1: None, 2: None})
    assert honours_deadlines.reason.startswith("rank 2: it ended without a result")
    assert verdict(EXAMPLE, "tcp", Caps(0), {0: None, 1: None, 2: None}).outcome == "failed"
    assert verdict(EXAMPLE, "tcp", Caps(0), {0: said("failed", "why"), 1: None}).reason == "rank 0: why"


def test_a_report_counts_and_survives_json() -> None:
    report = Report("tcp", "1", ["BYTES"], [said("passed"), said("failed", "why"), said("passed")])
    assert [report.count("passed"), report.count("failed"), report.count("skipped")] == [2, 1, 0]
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_a_meeting_gathers_by_rank_and_says_who_is_missing() -> None:
    meeting = Meeting(2)
    places = [Place(meeting, rank) for rank in range(2)]
    other = Background(lambda: places[1].all_gather(b"one", Deadline.after(5)))
    assert places[0].all_gather(b"zero", Deadline.after(5)) == [b"zero", b"one"] == other.result()
    with pytest.raises(FormingFailed, match="rank 1 did not come in time"):
        places[0].all_gather(b"zero", Deadline.after(0.05))
    waiting = Background(lambda: places[0].all_gather(b"zero", Deadline.after(5)))
    meeting.leave(1)
    with pytest.raises(FormingFailed, match="rank 1 has left the case"):
        waiting.result()


def test_an_expected_error_is_held_to_its_kind_its_words_and_its_time() -> None:
    for wrong in (
        lambda: None,
        lambda: _raise(FormingFailed("join", "tcp", 0, "other words")),
        lambda: _raise(FormingFailed("join", "tcp", 0, "rank 1 is late"), after_s=0.05),
    ):
        with pytest.raises(ClauseBroken), raises(FormingFailed, saying="rank 1", within_s=0.04):
            wrong()  # type: ignore[no-untyped-call]


def _raise(error: Exception, after_s: float = 0.0) -> None:
    threading.Event().wait(after_s)
    raise error


def test_nothing_of_all_this_is_left() -> None:
    assert processes.left_behind(processes.children, Deadline.after(5)) == set()
