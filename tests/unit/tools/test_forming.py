"""The forming bench: its faults are the same wherever they are drawn, and it finds the phase that took too long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benches.faults import FAULTS, Fault, ending, fault
from benches.forming import FORMINGS, RANKS, SEED, overrun
from hypothesis import given
from hypothesis import strategies as st

from nova.config.schema import Engine
from nova.wire import phases
from nova.wire.values import AttemptReport, PhaseTime

TOOLS = Path(__file__).parents[3] / "tools"
LIMITS = Engine(start_s=6.0, open_s=1.0, join_s=2.0, silent_s=3.0)


def attempt(phase: str, **took: float) -> AttemptReport:
    """One that lasted as long as its phases together and failed in `phase`."""
    times = [PhaseTime(name, seconds) for name, seconds in took.items()]
    return AttemptReport(1, "faulty", "", 0.0, sum(took.values()), "failed", phase, "a cause", times)


@given(st.integers(), st.integers(1, 10**6), st.integers(2, 16))
def test_a_fault_befalls_a_rank_that_there_is_and_is_drawn_alike_each_time(seed: int, number: int, size: int) -> None:
    for draw in (fault, ending):
        found = draw(seed, number, size)
        assert found == draw(seed, number, size)
        assert found is None or 0 <= found.rank < size


def test_the_bench_and_an_engine_draw_the_same_faults_and_every_kind_is_among_them() -> None:
    ours = [fault(SEED, number, RANKS) for number in range(1, FORMINGS + 1)]
    program = f"from benches.faults import fault; print([fault({SEED}, n, {RANKS}) for n in range(1, {FORMINGS + 1})])"
    done = subprocess.run([sys.executable, "-c", program], cwd=TOOLS, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == str(ours)
    assert {(each.how, each.phase) for each in ours if each is not None} == set(FAULTS)
    assert 0.3 < ours.count(None) / len(ours) < 0.5


@pytest.mark.parametrize(
    ("found", "over"),
    [
        (attempt("open", start=0.2, boot=0.8, open=0.1, meet=2.9), 2.0),  # one hung in open, the other met nobody
        (attempt("boot", start=0.2, boot=0.8, open=0.1, meet=6.9), 2.0),
        (attempt("", start=5.0), -1.0),
        (attempt("verify", start=0.2, boot=0.8, open=0.1, meet=0.1, join=1.5, verify=1.5), 1.0),
        (attempt("join", start=0.2, boot=0.8, open=0.1, meet=0.1, join=1.5), -0.5),
        (attempt("meet", start=0.2, boot=0.8, open=0.1, meet=0.1, join=1.5), -4.4),
    ],
)
def test_a_failed_attempt_is_held_to_the_limit_of_the_phase_that_it_failed_in(
    found: AttemptReport, over: float
) -> None:
    assert overrun(found, served=False, limits=LIMITS) == pytest.approx(over)


def test_an_attempt_that_served_is_held_to_every_limit_and_not_for_how_long_it_served() -> None:
    found = attempt("ready", start=0.2, boot=0.8, open=3.0, meet=0.1, join=0.1, verify=0.1, load=0.1)
    assert overrun(found, served=True, limits=LIMITS) == pytest.approx(2.0)


def test_a_fault_befalls_its_own_phase_and_rank_only() -> None:
    found = Fault("kill", phases.JOIN, 1, 0.0)
    assert [found.befalls(phase, rank) for phase in (phases.OPEN, phases.JOIN) for rank in (0, 1)] == [
        False, False, False, True,
    ]  # fmt: skip
