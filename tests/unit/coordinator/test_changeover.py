"""While a group serves: a better transport is tried beside it, and taken between requests."""

from __future__ import annotations

import msgspec
import pytest

from nova.wire import phases
from nova.wire.messages import EngineExited, EngineState, StartEngine, StopEngine
from nova.wire.values import LinkMeasure
from tests.unit.coordinator.deployments import (
    HOLD_S,
    ORDER,
    Cluster,
    fallen_back,
    kinds,
    measured,
    offer,
    offers,
    slow,
    starts,
)


@pytest.mark.parametrize("nodes", ["ab", "abc", "abcdefgh"])
def test_any_number_of_nodes_falls_back_tries_again_and_changes_back(nodes: str) -> None:
    cluster = Cluster(nodes)
    cluster.join_all()
    for rank in range(len(nodes)):
        cluster.exit(rank, "FormingFailed", "refused")
    assert [start.spec.transport for start in starts(cluster.tick())] == ["zmq"] * len(nodes)
    cluster.all_ready()
    trial = starts(cluster.tick(HOLD_S))
    assert [(start.spec.transport, start.engine.rank) for start in trial] == [("tcp", at) for at in range(len(nodes))]
    assert kinds(cluster.trial_ready()) == [(node, StopEngine) for node in nodes]
    assert kinds(cluster.machine.idle(cluster.clock())) == [(node, StopEngine) for node in nodes]
    assert [start.spec.transport for start in starts(cluster.tick())] == ["tcp"] * len(nodes)
    cluster.all_ready()
    assert (cluster.machine.state, cluster.tick(1e6)) == ("serving", [])


def test_one_node_forms_anew_after_a_pause_whatever_it_offers() -> None:
    cluster = Cluster("a")
    cluster.join_all()
    cluster.machine.node_offers("a", offers("tcp"), cluster.clock())
    asked = EngineExited(cluster.key(0), 1, True, "stopped", phases.LOAD)
    assert cluster.machine.engine_exited("a", asked, cluster.clock()) == []
    assert cluster.tick(0.9) == []
    assert len(starts(cluster.tick(0.1))) == 1


@pytest.mark.parametrize(("hold_s", "chosen"), [(HOLD_S - 0.1, "zmq"), (HOLD_S + 0.1, "tcp")])
def test_a_transport_that_failed_is_held_back_for_its_pause_and_then_first_again(hold_s: float, chosen: str) -> None:
    cluster = fallen_back()
    cluster.clock.advance(hold_s - 1.0)
    cluster.exit(1)
    assert starts(cluster.tick(1.0))[0].spec.transport == chosen


def test_new_offers_of_a_node_end_the_hold_and_the_better_transport_is_tried_between_requests() -> None:
    cluster = fallen_back()
    machine, now = cluster.machine, cluster.clock()
    assert machine.idle(now) == []
    assert machine.node_offers("b", offers(*ORDER), now) == [], "nothing has changed"
    assert not machine.failing
    out = machine.node_offers("b", [offer("zmq"), offer("tcp")], now)
    assert [(start.engine.group, start.spec.transport, start.spec.model) for start in starts(out)] == [
        ("trial", "tcp", "")
    ] * 2
    assert len({start.spec.ticket for start in starts(out)}) == 1
    assert not machine.failing, "nobody who is served notices"
    assert kinds(cluster.trial_ready()) == [("a", StopEngine), ("b", StopEngine)]
    assert machine.failing, "no new request begins"
    assert kinds(machine.idle(now)) == [("a", StopEngine), ("b", StopEngine)]
    assert starts(cluster.tick())[0].spec.transport == "tcp"
    assert [each.outcome for each in machine.attempts(now)] == [
        "failed", "ended", "ended", "forming"
    ]  # fmt: skip


def test_a_trial_that_fails_holds_its_transport_back_and_the_group_serves_on() -> None:
    cluster = fallen_back()
    machine = cluster.machine
    (start, _) = starts(cluster.tick(HOLD_S))
    assert (start.engine.group, start.spec.transport) == ("trial", "tcp")
    exited = EngineExited(start.engine, 1, False, "refused", phases.JOIN, "FormingFailed")
    assert kinds(machine.engine_exited("a", exited, cluster.clock())) == [("b", StopEngine)]
    assert (machine.state, machine.transport, machine.failing) == ("serving", "zmq", False)
    assert machine.idle(cluster.clock()) == []
    assert starts(cluster.tick(2 * HOLD_S - 0.1)) == []
    assert len(starts(cluster.tick(0.1))) == 2, "tried again, twice as long after"


def test_a_trial_ends_with_the_group_that_it_was_to_replace() -> None:
    cluster = fallen_back()
    cluster.tick(HOLD_S)
    out = cluster.exit(1)
    assert [message.engine.group for _, message in out if isinstance(message, StopEngine)] == ["main", "trial", "trial"]
    assert cluster.trial_ready() == []


def test_a_link_that_became_slow_is_reported_once_and_another_transport_is_tried_between_requests() -> None:
    cluster = measured()
    assert slow(cluster, hop_ms=4.0) == ""
    assert slow(cluster, hop_ms=20.0) == "the link a to b over tcp takes 20.0 ms, 1.2 ms when verified"
    assert slow(cluster, hop_ms=20.0) == ""
    assert [start.spec.transport for start in starts(cluster.tick())] == ["zmq", "zmq"]
    cluster.trial_ready(latency_s=1e-4)
    assert cluster.machine.failing
    cluster.machine.idle(cluster.clock())
    assert starts(cluster.tick())[0].spec.transport == "zmq"


def test_however_long_it_takes_until_no_request_runs_the_change_is_to_what_the_trial_has_shown_to_work() -> None:
    cluster = measured()
    slow(cluster, hop_ms=20.0)
    cluster.tick()
    cluster.trial_ready(latency_s=1e-4)
    cluster.clock.advance(10 * HOLD_S)
    cluster.machine.idle(cluster.clock())
    assert starts(cluster.tick())[0].spec.transport == "zmq"
    cluster.all_ready()
    assert starts(cluster.tick(HOLD_S - 0.1)) == [], "tcp has only just been left"
    assert starts(cluster.tick(0.2))[0].spec.transport == "tcp"


def test_while_a_link_is_slow_every_other_transport_is_tried_again_and_again() -> None:
    cluster = measured()
    slow(cluster, hop_ms=20.0)
    cluster.tick()
    cluster.trial_ready(latency_s=0.021)
    assert starts(cluster.tick(HOLD_S - 0.1)) == []
    assert starts(cluster.tick(0.1))[0].spec.transport == "zmq"


def test_a_link_that_is_fast_again_and_slow_again_is_reported_again() -> None:
    cluster = measured()
    assert slow(cluster, hop_ms=20.0)
    assert slow(cluster, hop_ms=2.0) == ""
    assert slow(cluster, hop_ms=20.0)


def test_a_trial_that_a_node_left_blames_no_transport() -> None:
    cluster = fallen_back()
    cluster.tick(HOLD_S)
    cluster.machine.node_left("b", "silent", cluster.clock())
    assert [each.outcome for each in cluster.machine.attempts(cluster.clock()) if each.trial] == ["failed"]
    cluster.machine.node_joined("b", offers(*ORDER), cluster.clock())
    assert starts(cluster.tick(1.0))[0].spec.transport == "tcp"


def test_new_offers_end_a_trial_of_the_old_ones_and_what_it_has_shown() -> None:
    cluster = fallen_back()
    machine = cluster.machine
    cluster.tick(HOLD_S)
    out = machine.node_offers("b", [offer("zmq"), offer("tcp")], cluster.clock())
    assert kinds(out) == [("a", StopEngine), ("b", StopEngine), ("a", StartEngine), ("b", StartEngine)]
    cluster.trial_ready()
    assert machine.failing
    machine.node_offers("b", offers("zmq"), cluster.clock())
    assert not machine.failing, "nothing is better any more"
    assert machine.idle(cluster.clock()) == []


def test_a_trial_that_takes_too_long_names_who_is_behind() -> None:
    cluster = fallen_back()
    (start, _) = starts(cluster.tick(HOLD_S))
    state = EngineState(start.engine, phases.JOIN)
    cluster.machine.engine_state("a", state, cluster.clock())
    cluster.tick(cluster.machine.change.trial.limit_s)
    (trial,) = [each for each in cluster.machine.attempts(cluster.clock()) if each.trial]
    assert (trial.phase, trial.cause) == ("asked", "not formed within 75 s: rank 1 on b is in phase asked")


def test_of_two_that_the_order_does_not_rank_the_one_in_use_stays_unless_the_other_is_plainly_cheaper() -> None:
    for figures, tried in ((LinkMeasure(1, 1.2e-4, 1e9), False), (LinkMeasure(1, 1e-3, 1e9), True)):
        cluster = Cluster("ab")
        choice = cluster.machine.choice
        choice.policy = cluster.machine.change.policy = msgspec.structs.replace(
            choice.policy, order=[], allow=["tcp", "zmq"]
        )
        cluster.join_all()
        choice.formed(choice.selection.ranked[0], {0: figures}, cluster.clock())
        cluster.all_ready()
        assert bool(starts(cluster.tick())) == tried


def test_a_transport_that_is_no_faster_than_the_one_that_became_slow_is_not_changed_to() -> None:
    cluster = measured()
    slow(cluster, hop_ms=20.0)
    cluster.tick()
    cluster.trial_ready(latency_s=0.021)
    assert not cluster.machine.failing
    verdicts = {each.name: each.reason for each in cluster.machine.choice.report("tcp", cluster.clock())}
    assert "it works, but a message takes 21.0 ms, 20.0 ms over tcp" in verdicts["zmq"]


@pytest.mark.parametrize(("latency_s", "changed"), [(4e-3, True), (8e-3, False)])
def test_a_transport_that_stands_first_may_be_slower_but_not_by_the_factor(latency_s: float, changed: bool) -> None:
    cluster = fallen_back()
    for rank in (0, 1):
        cluster.machine.current.links[rank] = LinkMeasure(1 - rank, 1e-3, 1e9)  # type: ignore[union-attr]
    cluster.tick(HOLD_S)
    cluster.trial_ready(latency_s)
    assert cluster.machine.failing == changed
