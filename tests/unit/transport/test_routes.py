"""Which address of a peer is dialled from which of ours, and what comes next when a route leads nowhere."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.clock import Deadline, FakeClock
from nova.transport.routes import MAX_ADDRESSES, Address, Addresses, Course, Route, routes

NETWORKS = st.sampled_from(["ip4/10.0.0.0/8", "ip4/169.254.0.0/16", "ip6/fe80::/64", "loopback/a"])
OURS = st.sampled_from(["10.0.0.1", "10.0.0.3", "169.254.0.1", "::1", "fe80::1%en5", "127.0.0.1"])
THEIRS = st.sampled_from(["10.0.0.2", "10.0.0.0", "169.254.0.2", "::2", "fe80::2%en5", "127.0.0.2"])
HERE, THERE = (st.lists(st.builds(Address, hosts, NETWORKS), max_size=5) for hosts in (OURS, THEIRS))


def addresses(*hosts: str, domain: str = "d") -> list[Address]:
    return [Address(host, domain) for host in hosts]


@given(HERE, THERE)
def test_both_ends_find_the_same_routes_in_the_same_order(ours: list[Address], theirs: list[Address]) -> None:
    assert routes(ours, theirs) == [Route(back.target, back.source) for back in routes(theirs, ours)]


@given(HERE, THERE)
def test_a_route_joins_addresses_of_one_domain_and_family_and_every_such_pair_is_one(
    ours: list[Address], theirs: list[Address]
) -> None:
    found = routes(ours, theirs)
    expected = {
        (a.host, b.host) for a in ours for b in theirs if a.domain == b.domain and (":" in a.host) == (":" in b.host)
    }
    assert {(route.source, route.target) for route in found} == expected
    assert len(found) == len(expected)


def test_the_best_pair_comes_first_and_an_even_one_before_a_lopsided_one() -> None:
    found = routes(addresses("1.0.0.1", "1.0.0.2", "1.0.0.3"), addresses("2.0.0.1", "2.0.0.2", "2.0.0.3"))
    assert found[0] == Route("1.0.0.1", "2.0.0.1")
    assert found.index(Route("1.0.0.2", "2.0.0.2")) < found.index(Route("1.0.0.1", "2.0.0.3"))
    assert found[-1] == Route("1.0.0.3", "2.0.0.3")


def test_nodes_without_a_common_network_have_no_route() -> None:
    assert routes(addresses("1.0.0.1"), addresses("1.0.0.2", domain="other")) == []


def test_a_card_lists_a_bounded_number_of_addresses() -> None:
    one = {"host": "10.0.0.1", "domain": "d"}
    assert msgspec.convert([one] * MAX_ADDRESSES, Addresses)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert([one] * (MAX_ADDRESSES + 1), Addresses)


@pytest.mark.parametrize("host", ["a.example", "", "10.0.0", "1" * 65])
def test_a_card_with_a_name_in_place_of_an_address_does_not_decode(host: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"host": host, "domain": "d"}, Address)


FIRST, SECOND = Route("1.0.0.1", "2.0.0.1"), Route("1.0.0.2", "2.0.0.2")


def test_a_course_goes_round_its_routes_and_remembers_why_each_failed() -> None:
    course = Course([FIRST, SECOND], Deadline(10.0, FakeClock()))
    assert (course.route, course.why()) == (FIRST, "")
    course.failed(FIRST, "silent")
    assert course.route == SECOND
    course.failed(SECOND, "refused")
    assert course.route == FIRST
    assert course.why() == "2.0.0.1 from 1.0.0.1: silent; 2.0.0.2 from 1.0.0.2: refused"


def test_a_route_that_is_being_tried_has_its_reason_unless_it_failed_before() -> None:
    course = Course([FIRST, SECOND], Deadline(10.0, FakeClock()))
    course.failed(FIRST, "refused")
    course.pending(FIRST, "silent")
    course.pending(SECOND, "silent")
    assert course.route == SECOND
    assert course.why() == "2.0.0.1 from 1.0.0.1: refused; 2.0.0.2 from 1.0.0.2: silent"


def test_a_route_that_fails_twice_at_once_is_passed_over_once() -> None:
    course = Course([FIRST, SECOND], Deadline(10.0, FakeClock()))
    course.failed(FIRST, "lane 0 refused")
    course.failed(FIRST, "lane 1 refused")
    assert course.route == SECOND


def test_an_only_route_is_waited_for_until_the_deadline() -> None:
    course = Course([FIRST], Deadline(10.0, FakeClock()))
    course.failed(FIRST, "refused")
    assert (course.route, course.patience()) == (FIRST, 10.0)


@given(st.integers(2, 9), st.floats(0.5, 60.0))
def test_every_route_gets_its_share_of_the_time_before_the_deadline(count: int, seconds: float) -> None:
    clock = FakeClock()
    course = Course([Route("1.0.0.1", f"2.0.0.{index}") for index in range(count)], Deadline(seconds, clock))
    tried = []
    for _ in range(count):
        tried.append(course.route)
        clock.advance(course.patience())
        course.failed(course.route, "silent")
    assert len(set(tried)) == count
    assert 0 < clock.now <= seconds * count / (count + 1) + 1e-6
