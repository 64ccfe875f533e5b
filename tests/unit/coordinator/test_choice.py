"""What is tried next, whatever failed before."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.config.schema import Transport as Policy
from nova.coordinator.choice import Choice
from nova.errors import NoTransport
from nova.wire.values import LinkMeasure
from tests.unit.coordinator.deployments import offer, offers

POLICY = Policy(order=["tcp", "zmq", "ring"], security="none", hold_s=10.0, hold_max_s=40.0)


def choice(*transports: str) -> Choice:
    found = Choice(POLICY, ["a", "b"])
    for node in found.nodes:
        found.offered(node, offers(*(transports or POLICY.order)))
    return found


def test_each_failure_holds_its_transport_back_twice_as_long_and_a_success_ends_the_pause() -> None:
    found = choice("tcp", "zmq")
    now = 0.0
    for pause in (10.0, 20.0, 40.0, 40.0):
        assert found.best(now).name == "tcp"
        found.hold("tcp", "refused", now)
        assert found.best(now + pause - 0.1).name == "zmq"
        now += pause
    found.hold("tcp", "refused", now)
    found.formed(found.look(now).ranked[0], {}, now)
    assert found.best(now).name == "tcp"


@pytest.mark.parametrize(("well_s", "pause"), [(39.0, 20.0), (41.0, 10.0)])
def test_one_that_comes_up_and_fails_soon_after_is_held_back_for_longer_each_time(well_s: float, pause: float) -> None:
    found = choice("tcp", "zmq")
    found.hold("tcp", "refused", 0.0)
    found.formed(found.best(10.0), {}, 10.0)
    found.hold("tcp", "broke", now := 10.0 + well_s)
    assert found.best(now + pause - 0.1).name == "zmq"
    assert found.best(now + pause).name == "tcp"


def test_what_a_trial_has_shown_to_work_is_taken_unless_it_is_held_back() -> None:
    found = choice("tcp", "zmq")
    assert found.best(0.0, "zmq").name == "zmq"
    assert found.best(0.0, "gone").name == "tcp"
    found.hold("zmq", "refused", 0.0)
    assert found.best(1.0, "zmq").name == "tcp"


def test_headers_go_over_a_side_channel_that_is_not_held_back_where_there_is_one() -> None:
    arrays = msgspec.structs.replace(offer("jaccl"), caps=["ARRAYS", "PEER_FAILURE", "AUTHENTICATED"])
    found = Choice(Policy(order=["jaccl", "tcp"], side=["tcp", "zmq"], hold_s=10.0), ["a", "b"])
    for node in found.nodes:
        found.offered(node, [arrays, *offers("tcp", "zmq")])
    side = {now: each.name for now in (0.0, 10.0) if (each := found.look(now).ranked[0].side) is not None}
    assert side == {0.0: "tcp", 10.0: "tcp"}
    found.hold("tcp", "refused", 0.0)
    later = {now: each.name for now in (0.0, 10.0) if (each := found.look(now).ranked[0].side) is not None}
    assert later == {0.0: "zmq", 10.0: "tcp"}


@given(st.lists(st.tuples(st.sampled_from(["tcp", "zmq", "ring"]), st.floats(0.0, 30.0)), max_size=30))
def test_something_is_always_tried_and_nothing_held_while_another_is_free(failures: list[tuple[str, float]]) -> None:
    found, now = choice(), 0.0
    for name, later in failures:
        found.best(now)
        found.hold(name, "refused", now)
        now += later
    best = found.best(now)
    free = found.free(now)
    assert best == free[0] if free else best in found.selection.ranked
    held = {each.name for each in found.report("", now) if each.verdict == "held"}
    assert {each.name for each in free} | held == set(POLICY.order)


def test_a_node_that_came_back_as_it_was_changes_nothing_and_a_changed_one_ends_every_hold() -> None:
    found = choice("tcp", "zmq")
    found.best(0.0)
    found.hold("tcp", "refused", 0.0)
    assert found.left("b")
    assert found.missing == ["b"]
    found.offered("b", offers("tcp", "zmq"))
    assert found.best(1.0).name == "zmq"
    assert found.left("b")
    found.offered("b", offers("tcp", "zmq", "ring"))
    assert found.best(1.0).name == "tcp"


def test_offers_that_are_the_same_keep_what_is_known() -> None:
    found = choice("tcp", "zmq")
    found.best(0.0)
    found.hold("tcp", "refused", 0.0)
    assert not found.offered("b", offers("tcp", "zmq"))
    assert found.best(1.0).name == "zmq"
    assert found.offered("b", [*offers("tcp"), offer("zmq", "no library")])
    assert found.best(1.0).name == "tcp"


def test_what_was_measured_is_used_until_one_of_the_two_nodes_changes() -> None:
    found = choice("tcp", "zmq")
    links = {0: LinkMeasure(1, 2e-3, 1e9), 1: LinkMeasure(0, 1e-3, 1e9)}
    found.formed(found.best(0.0), links, 0.0)
    tcp, zmq = found.look(0.0).ranked
    assert (tcp.measured, zmq.measured) == (True, False)
    assert tcp.cost_s == pytest.approx(2e-3, rel=0.1)
    found.offered("a", offers("tcp"))
    assert not found.look(0.0).ranked[0].measured


def test_the_report_says_of_every_transport_what_became_of_it() -> None:
    found = choice("tcp", "zmq")
    found.offered("b", [offer("tcp"), offer("zmq"), offer("ring", "mlx is too old")])
    found.best(0.0)
    found.hold("tcp", "rank 1 did not come", 0.0)
    verdicts = {each.name: (each.verdict, each.reason) for each in found.report("zmq", 4.0)}
    assert verdicts == {
        "tcp": ("held", "held back for 6 s more, failed 1 times: rank 1 did not come"),
        "zmq": ("chosen", ""),
        "ring": ("rejected", "a does not offer it"),
    }


def test_no_transport_at_all_is_an_error_with_every_reason() -> None:
    found = choice("tcp")
    found.offered("b", [])
    with pytest.raises(NoTransport, match="tcp: b does not offer it"):
        found.best(0.0)
