"""What is tried next, whatever failed before."""

from __future__ import annotations

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


def test_each_failure_holds_its_transport_back_twice_as_long_and_a_success_ends_it() -> None:
    found = choice("tcp", "zmq")
    now = 0.0
    for pause in (10.0, 20.0, 40.0, 40.0):
        assert found.best(now).name == "tcp"
        found.hold("tcp", "refused", now)
        assert found.best(now + pause - 0.1).name == "zmq"
        now += pause
    found.formed(found.best(now), {})
    found.hold("tcp", "refused", now)
    assert found.best(now + 10.0).name == "tcp"


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
    assert found.best(1.0).name == "tcp", "it was away: it may be another machine for all we know"


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
    found.formed(found.best(0.0), links)
    tcp, zmq = found.look().ranked
    assert (tcp.measured, zmq.measured) == (True, False)
    assert tcp.cost_s == pytest.approx(2e-3, rel=0.1)
    found.offered("a", offers("tcp"))
    assert not found.look().ranked[0].measured


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
