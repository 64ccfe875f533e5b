"""The account of an attempt: its phases, its meetings, and what it measured."""

from __future__ import annotations

import pytest

from nova.wire import phases
from nova.wire.messages import EngineState, Gather
from nova.wire.values import LinkMeasure
from tests.unit.coordinator.deployments import (
    Cluster,
    measured,
    slow,
)


@pytest.mark.parametrize(
    "figures", [(0.0, 0.0), (1e-3, -1.0), (float("nan"), 1e9), (1e-3, float("nan")), (float("inf"), 1e9), (-1.0, 1e9)]
)
def test_figures_that_are_none_are_not_believed(figures: tuple[float, float]) -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    for rank in (0, 1):
        engine = cluster.machine.engines[rank]
        state = EngineState(engine.key, phases.LOAD, links=[LinkMeasure(1 - rank, *figures)])
        cluster.machine.engine_state(engine.node, state, cluster.clock())
    cluster.all_ready()
    assert slow(cluster, hop_ms=20.0) == ""
    (attempt,) = cluster.machine.attempts(cluster.clock())
    assert attempt.links == []


def test_what_was_measured_stands_in_the_report_of_the_attempt_with_the_time_of_each_phase() -> None:
    cluster = measured()
    slow(cluster, hop_ms=2.0)
    (attempt,) = cluster.machine.attempts(cluster.clock())
    assert (attempt.outcome, attempt.transport) == ("serving", "tcp")
    assert [(link.source, link.target, link.recent_s) for link in attempt.links] == [("a", "b", 0.002), ("b", "a", 0.0)]
    assert [each.phase for each in attempt.phases] == ["start", phases.LOAD]


def test_an_attempt_is_in_the_phase_of_its_slowest_engine_and_its_phases_add_up_to_the_whole() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    told = [(0, phases.BOOT), (0, phases.OPEN), (0, phases.MEET), (1, phases.BOOT), (1, phases.OPEN)]
    for rank, phase in told:
        cluster.clock.advance(1.0)
        cluster.state(rank, phase)
    cluster.clock.advance(2.0)
    cluster.exit(1, reason="crashed")
    cluster.state(0, phases.JOIN)
    (attempt,) = cluster.machine.attempts(cluster.clock() + 9.0)
    assert [(each.phase, each.seconds) for each in attempt.phases] == [("start", 4.0), ("boot", 1.0), ("open", 2.0)]
    assert attempt.seconds == 7.0


def test_what_an_engine_says_while_it_loads_does_not_shorten_its_loading() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    for detail in ("", "1 of 3 MiB", "2 of 3 MiB"):
        for rank in (0, 1):
            cluster.state(rank, phases.LOAD, detail)
        cluster.clock.advance(1.0)
    cluster.all_ready()
    (attempt,) = cluster.machine.attempts(cluster.clock() + 9.0)
    assert [(each.phase, each.seconds) for each in attempt.phases] == [("start", 0.0), ("load", 3.0)]


def test_a_rank_that_speaks_in_many_rounds_is_kept_in_its_last_one_only() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    for round_ in range(1, 1000):
        assert cluster.machine.gathered("b", Gather(cluster.key(1), round_, b"x"), cluster.clock()) == []
    assert cluster.machine.current is not None
    assert len(cluster.machine.current._gathers) == 1
    assert len(cluster.machine.gathered("a", Gather(cluster.key(0), 999, b"y"), cluster.clock())) == 2
