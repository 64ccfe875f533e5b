"""One deployment's life, case by case; what holds in every order of events is in test_deployment_machine."""

from __future__ import annotations

from itertools import permutations

import pytest

from nova.coordinator.deployment import ENDED_S, KEPT
from nova.coordinator.generation import NO_TRANSPORT
from nova.wire import phases
from nova.wire.messages import EngineExited, Gather, Gathered, StartEngine, StopEngine
from nova.wire.values import EngineKey
from tests.unit.coordinator.deployments import GRACE_S, TICKET, Cluster, kinds, offer, offers, starts


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


def test_new_offers_while_it_waits_for_its_next_attempt_are_tried_at_once() -> None:
    cluster = Cluster("ab", retry_s=50.0)
    cluster.join_all("tcp")
    cluster.exit(0, "FormingFailed", "refused")
    cluster.tick(GRACE_S)
    assert cluster.tick(1.0) == []
    out = cluster.machine.node_offers("b", offers("tcp", "zmq"), cluster.clock())
    assert len(starts(out)) == 2


def test_a_transport_that_breaks_while_it_serves_is_held_back_and_the_next_one_serves_what_waits() -> None:
    cluster = Cluster("ab").serving()
    cluster.exit(0, "TransportFault", "the transport raised OSError: gone in a send to rank 1")
    assert (cluster.machine.state, cluster.machine.falls_back) == ("failed", True)
    assert starts(cluster.tick())[0].spec.transport == "zmq"


def test_an_engine_that_hangs_in_a_transfer_makes_its_transport_suspect_too() -> None:
    cluster = Cluster("ab").serving()
    exited = EngineExited(cluster.key(1), 4711, False, "one transfer took longer", phases.READY, suspect=True)
    cluster.machine.engine_exited("b", exited, cluster.clock())
    assert cluster.machine.falls_back


def test_an_engine_that_is_killed_while_it_serves_blames_no_transport() -> None:
    cluster = Cluster("ab").serving()
    cluster.exit(0)
    assert not cluster.machine.falls_back
    assert starts(cluster.tick(1.0))[0].spec.transport == "tcp"


def test_options_that_a_node_refuses_cost_their_transport_and_not_the_deployment() -> None:
    cluster = Cluster("ab")
    cluster.join_all()
    cluster.state(0, phases.OPEN)
    cluster.exit(0, "ConfigError", "transport.options.tcp.lanes: expected 1 to 4")
    assert starts(cluster.tick())[0].spec.transport == "zmq"


def test_a_node_that_comes_back_with_other_offers_is_tried_at_once_and_one_that_is_as_it_was_waits() -> None:
    for back, at_once in ((offers("tcp"), False), (offers("tcp", "zmq"), True)):
        cluster = Cluster("ab", retry_s=50.0).serving("tcp")
        cluster.machine.node_left("b", "silent", cluster.clock())
        assert bool(starts(cluster.machine.node_joined("b", back, cluster.clock()) + cluster.tick())) == at_once


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


def test_layers_that_move_do_so_between_requests_and_to_the_nodes_that_were_named() -> None:
    cluster = Cluster("abc").serving()
    assert cluster.machine.place(["c", "a"], [5, 4], cluster.clock(), "it gains 20 %") == []
    assert cluster.machine.state == "serving"
    assert cluster.machine.failing
    assert [kind for _, kind in kinds(cluster.machine.idle(cluster.clock()))] == [StopEngine] * 3
    assert "it gains 20 %" in cluster.machine.reasons[-1]
    specs = [(node, message.spec) for node, message in cluster.tick() if isinstance(message, StartEngine)]
    assert [(node, spec.first_layer, spec.last_layer) for node, spec in specs] == [("c", 0, 5), ("a", 5, 9)]


def test_a_node_without_layers_may_leave_and_come_back_and_nobody_minds() -> None:
    cluster = Cluster("abc")
    cluster.machine.split = []
    cluster.join_all()
    cluster.machine.place(["b"], [9], cluster.clock())
    cluster.all_ready()
    assert cluster.machine.node_left("a", "silent", cluster.clock()) == []
    assert cluster.tick(GRACE_S) == []
    assert cluster.machine.node_joined("a", offers("tcp"), cluster.clock()) == []
    assert (cluster.machine.state, cluster.machine.transport) == ("serving", NO_TRANSPORT)
    assert not cluster.machine.failing


def test_what_failed_between_some_nodes_may_work_between_others() -> None:
    cluster = Cluster("abc")
    cluster.join_all()
    cluster.exit(0, "FormingFailed", "refused")
    cluster.machine.place(["a", "b"], [5, 4], cluster.clock())
    cluster.tick(GRACE_S)
    cluster.tick()
    assert (cluster.machine.state, cluster.machine.transport) == ("forming", "tcp")


def test_nodes_that_could_not_be_planned_with_are_asked_again_after_pauses_that_grow() -> None:
    cluster = Cluster("ab", retry_s=1.0)
    cluster.machine.split = []
    cluster.join_all()
    for pause_s in (1.0, 2.0, 4.0):
        assert cluster.machine.may_try(cluster.clock())
        cluster.machine.not_placed("node b could not measure: no such model", cluster.clock())
        assert cluster.machine.why_not == "node b could not measure: no such model"
        cluster.clock.advance(pause_s - 0.1)
        assert not cluster.machine.may_try(cluster.clock())
        cluster.clock.advance(0.1)
