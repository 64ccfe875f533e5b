"""One deployment's life, case by case; what holds in every order of events is in test_deployment_machine."""

from __future__ import annotations

from itertools import permutations

import pytest

from nova.coordinator.deployment import ENDED_S, KEPT
from nova.coordinator.generation import NO_TRANSPORT
from nova.coordinator.links import CHUNKS
from nova.wire import phases
from nova.wire.messages import EngineExited, EngineState, Gather, Gathered, StartEngine, StopEngine
from nova.wire.values import EngineKey, LinkMeasure, TokenTiming
from tests.unit.coordinator.deployments import GRACE_S, HOLD_S, ORDER, TICKET, Cluster, kinds, offer, offers, starts


def test_engines_start_when_the_last_node_has_joined_and_not_before() -> None:
    cluster = Cluster("abc")
    assert cluster.machine.node_joined("c", offers("tcp"), 1.0) == []
    assert cluster.machine.node_joined("stranger", offers("tcp"), 1.0) == []
    assert cluster.machine.node_joined("a", offers("tcp"), 1.0) == []
    assert cluster.machine.why_not == "waiting for b to join"
    out = cluster.machine.node_joined("b", offers("tcp"), 1.0)
    assert kinds(out) == [(node, StartEngine) for node in "abc"]


def test_nothing_is_formed_before_the_model_is_known() -> None:
    cluster = Cluster()
    split, cluster.machine.split = cluster.machine.split, []
    assert cluster.join_all() == []
    cluster.machine.split = split
    assert len(starts(cluster.tick())) == 2


def test_the_specs_cover_the_layers_in_order_and_share_one_ticket() -> None:
    specs = [start.spec for start in starts(Cluster("abc").join_all())]
    assert [(spec.first_layer, spec.last_layer) for spec in specs] == [(0, 2), (2, 5), (5, 9)]
    assert {(spec.layers, spec.size, spec.ticket, spec.transport) for spec in specs} == {(9, 3, TICKET, "tcp")}
    assert specs[0].options == {"lanes": 2}


def test_one_node_needs_no_transport() -> None:
    (start,) = starts(Cluster("a").join_all())
    assert start.spec.transport == NO_TRANSPORT


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_it_serves_when_the_last_engine_is_ready_and_not_before(order: tuple[int, ...]) -> None:
    cluster = Cluster("abc")
    cluster.join_all()
    for rank in order:
        assert cluster.machine.state == "forming"
        cluster.state(rank, phases.READY)
    assert cluster.machine.state == "serving"
    assert cluster.machine.driver.node == "c"


def test_gathered_goes_to_all_ranks_at_once_in_order_of_rank() -> None:
    cluster = Cluster("abc")
    cluster.join_all()
    machine = cluster.machine
    for rank in (2, 0):
        assert machine.gathered("abc"[rank], Gather(cluster.key(rank), 1, b"%d" % rank), 1.0) == []
    assert machine.gathered("b", Gather(cluster.key(1), 2, b"early"), 1.0) == []  # another round waits for itself
    blobs = [b"0", b"1", b"2"]
    expected = [(node, Gathered(cluster.key(rank), 1, blobs)) for rank, node in enumerate("abc")]
    assert machine.gathered("b", Gather(cluster.key(1), 1, b"1"), 1.0) == expected


def test_a_gather_of_a_generation_that_has_failed_is_not_answered() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    cluster.machine.gathered("b", Gather(cluster.key(1), 1, b"1"), cluster.clock())
    cluster.machine.node_left("b", "gone", cluster.clock())
    assert cluster.machine.gathered("a", Gather(cluster.key(0), 1, b"0"), cluster.clock()) == []


def test_a_lost_node_is_named_and_only_the_others_are_stopped() -> None:
    cluster = Cluster("abc").serving()
    out = cluster.machine.node_left("b", "no sign of life for 2.0 s", cluster.clock())
    assert kinds(out) == [("a", StopEngine), ("c", StopEngine)]
    assert cluster.machine.state == "failed"
    assert cluster.machine.why_not == "generation 1 over tcp: node b is lost: no sign of life for 2.0 s"


def test_the_root_cause_wins_over_the_symptom_that_came_first() -> None:
    cluster = Cluster("abc").serving()
    assert cluster.exit(0, "PeerLost", "rank 1 is gone") == []
    assert cluster.machine.failing
    assert cluster.tick(GRACE_S - 0.1) == []
    cluster.machine.node_left("b", "silent", cluster.clock())
    assert "node b is lost: silent" in cluster.machine.why_not


def test_a_symptom_alone_is_the_cause_once_its_grace_is_over() -> None:
    cluster = Cluster("ab").serving()
    cluster.exit(0, "PeerLost", "rank 1 is gone")
    assert kinds(cluster.tick(GRACE_S)) == [("b", StopEngine)]
    assert "engine of rank 0 on node a (pid 4711, phase ready): rank 1 is gone" in cluster.machine.why_not


def test_an_engine_that_ended_after_it_was_ready_keeps_the_group_from_serving() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    cluster.state(0, phases.READY)
    cluster.exit(0, "PeerLost", "rank 1 is gone")
    cluster.state(1, phases.READY)
    assert cluster.machine.state == "forming"


def test_a_link_that_does_not_form_falls_back_to_the_next_transport_without_a_pause() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    cluster.exit(0, "FormingFailed", "rank 1 did not come")
    cluster.tick(GRACE_S)
    assert cluster.machine.state == "failed"
    assert [start.spec.transport for start in starts(cluster.tick())] == ["zmq", "zmq"]
    assert cluster.machine.generation == 2


def test_after_the_last_transport_it_goes_round_again_after_a_pause() -> None:
    cluster = Cluster("ab", retry_s=5.0)
    cluster.join_all()
    tried = []
    for _ in range(4):
        tried.append(cluster.machine.transport)
        cluster.exit(0, "FormingFailed", "refused")
        cluster.tick(GRACE_S)
        if not cluster.tick():
            assert tried[-1] == "zmq"
            cluster.tick(60.0)
    assert tried == ["tcp", "zmq", "tcp", "zmq"]


def test_the_only_transport_is_not_tried_again_without_a_pause() -> None:
    cluster = Cluster("ab", retry_s=5.0)
    cluster.join_all("tcp")
    cluster.exit(0, "FormingFailed", "refused")
    cluster.tick(GRACE_S)
    assert cluster.tick(4.9) == []
    assert len(starts(cluster.tick(0.1))) == 2


def test_an_engine_that_dies_while_forming_does_not_condemn_the_transport() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    cluster.exit(1)
    assert starts(cluster.tick(1.0))[0].spec.transport == "tcp"


def fallen_back() -> Cluster:
    """Serves over zmq because tcp did not come up."""
    cluster = Cluster("ab")
    cluster.join_all()
    cluster.exit(0, "FormingFailed", "refused")
    cluster.tick(GRACE_S)
    cluster.tick()
    cluster.all_ready()
    assert (cluster.machine.state, cluster.machine.transport) == ("serving", "zmq")
    return cluster


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


def test_new_offers_while_it_waits_for_its_next_attempt_are_tried_at_once() -> None:
    cluster = Cluster("ab", retry_s=50.0)
    cluster.join_all("tcp")
    cluster.exit(0, "FormingFailed", "refused")
    cluster.tick(GRACE_S)
    assert cluster.tick(1.0) == []
    out = cluster.machine.node_offers("b", offers("tcp", "zmq"), cluster.clock())
    assert len(starts(out)) == 2


def slow(cluster: Cluster, hop_ms: float) -> str:
    """What is noticed after many chunks whose hop from stage 0 to 1 took so long."""
    hops = [(0, 0, 1000), (1_000_000 + round(hop_ms * 1e6), 0, 1000)]
    timings = [TokenTiming(9, 1, False, 0, 0, hops)] * CHUNKS
    return cluster.machine.passed(timings, [0, 0], cluster.clock())


def measured() -> Cluster:
    cluster = Cluster("ab")
    cluster.join_all()
    for rank in (0, 1):
        engine = cluster.machine.engines[rank]
        state = EngineState(engine.key, phases.LOAD, links=[LinkMeasure(1 - rank, 1e-3, 1e8)])
        cluster.machine.engine_state(engine.node, state, cluster.clock())
    cluster.all_ready()
    return cluster


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


def test_what_was_measured_stands_in_the_report_of_the_attempt_with_the_time_of_each_phase() -> None:
    cluster = measured()
    slow(cluster, hop_ms=2.0)
    (attempt,) = cluster.machine.attempts(cluster.clock())
    assert (attempt.outcome, attempt.transport) == ("serving", "tcp")
    assert [(link.source, link.target, link.recent_s) for link in attempt.links] == [("a", "b", 0.002), ("b", "a", 0.0)]
    assert [each.phase for each in attempt.phases] == ["start", phases.LOAD]


def test_no_transport_keeps_every_reason() -> None:
    cluster = Cluster("ab")
    machine = cluster.machine
    machine.node_joined("a", [offer("tcp"), offer("zmq", "no library")], 1.0)
    machine.node_joined("b", [offer("zmq"), offer("jaccl")], 1.0)
    assert machine.state == "failed"
    assert machine.choice.selection.rejected == {
        "tcp": "b does not offer it",
        "zmq": "unavailable on a: no library",
        "jaccl": "not in transport.order",
    }
    for name, reason in machine.choice.selection.rejected.items():
        assert f"{name}: {reason}" in machine.why_not
    assert machine.why_not.startswith("no transport can connect these nodes")


def test_a_reason_does_not_speak_of_a_transport_that_was_not_tried() -> None:
    cluster = Cluster("ab").serving()
    cluster.machine.node_left("b", "gone", cluster.clock())
    cluster.clock.advance(1.0)
    cluster.machine.node_joined("b", [], cluster.clock())
    cluster.tick()
    assert cluster.machine.state == "failed"
    assert cluster.machine.transport == ""
    assert "generation 1" not in cluster.machine.why_not


def test_a_new_generation_waits_for_the_old_engines_to_be_gone_but_not_for_ever() -> None:
    cluster = Cluster("ab", retry_s=1.0).serving()
    cluster.exit(1)
    assert cluster.machine.state == "failed"
    cluster.clock.advance(5.0)
    assert cluster.machine.tick(cluster.clock()) == [], "rank 0 still holds its weights"
    limit = 2 * cluster.machine.config.engine.stop_s + ENDED_S
    cluster.clock.advance(limit - 5.0)
    assert len(starts(cluster.machine.tick(cluster.clock()))) == 2


def test_the_pause_doubles_up_to_its_limit_and_starts_anew_after_serving() -> None:
    cluster = Cluster("ab", retry_s=1.0, retry_max_s=10.0)
    cluster.join_all()
    for pause in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        cluster.exit(1)
        assert cluster.tick(pause - 0.01) == []
        assert len(starts(cluster.tick(0.01))) == 2
    cluster.all_ready()
    cluster.exit(1)
    assert len(starts(cluster.tick(1.0))) == 2


def test_thousands_of_failures_are_survived_and_the_last_reasons_kept() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    for number in range(1500):
        cluster.exit(1, reason=f"failure {number}")
        assert len(starts(cluster.tick(60.0))) == 2
    assert len(cluster.machine.reasons) == KEPT
    assert "failure 1499" in cluster.machine.reasons[-1]


def test_a_message_of_an_old_generation_or_of_a_stranger_changes_nothing() -> None:
    cluster = Cluster("ab").serving()
    old = cluster.key(0)
    cluster.exit(1)
    cluster.tick(1.0)
    before = repr(cluster.machine)
    foreign = (("a", old), ("b", cluster.key(0)), ("a", EngineKey("other", 2, 0)), ("a", EngineKey("main", 2, 7)))
    for node, key in foreign:
        assert cluster.machine.gathered(node, Gather(key, 1, b""), cluster.clock()) == []
    assert repr(cluster.machine) == before


def test_a_stopped_deployment_stops_its_engines_and_never_forms_again() -> None:
    cluster = Cluster("ab").serving()
    assert kinds(cluster.machine.stop(cluster.clock())) == [("a", StopEngine), ("b", StopEngine)]
    assert cluster.exit(0) == []
    assert cluster.machine.node_left("b", "gone", cluster.clock()) == []
    assert cluster.join_all() == []
    assert cluster.tick(1e6) == []
    assert cluster.machine.why_not == "the deployment is stopped"


def test_no_engine_is_stopped_on_a_node_that_left_after_the_failure() -> None:
    cluster = Cluster("abc").serving()
    cluster.exit(0)
    cluster.machine.node_left("b", "gone", cluster.clock())
    assert kinds(cluster.machine.stop(cluster.clock())) == [("c", StopEngine)]


def test_while_forming_it_says_how_far_each_node_is() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    cluster.state(1, phases.LOAD)
    assert cluster.machine.why_not == "generation 1 is being formed over tcp (a: asked, b: load)"
