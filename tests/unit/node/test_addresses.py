"""Names become addresses, in a bounded time, and what is wrong with a name is said with its consequence."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nova.clock import monotonic
from nova.node.addresses import Resolved, look_up, resolve
from nova.transport.routes import MAX_ADDRESSES


def found(*hosts: str, **names: list[str] | OSError) -> Resolved:
    def lookup(name: str) -> list[str]:
        answer = names[name.replace(".local", "")]
        if isinstance(answer, OSError):
            raise answer
        return answer

    return asyncio.run(resolve(hosts, lookup))


@pytest.mark.parametrize("host", ["10.0.0.1", "::1", "fe80::1%en5", "127.0.0.2"])
def test_a_numeric_address_is_taken_as_it_is_and_not_looked_up(host: str) -> None:
    assert found(host) == Resolved([host], [])


def test_brackets_round_an_address_are_no_part_of_it() -> None:
    assert found("[fd00::1]") == Resolved(["fd00::1"], [])


def test_a_name_stands_for_its_ipv4_addresses_and_then_its_ipv6_ones_each_once() -> None:
    answer = ["fe80::1%en5", "10.0.0.1", "fe80::1%en5", "10.0.0.2", "10.0.0.1"]
    assert found("10.0.0.9", "mini.local", "10.0.0.2", mini=answer) == Resolved(
        ["10.0.0.9", "10.0.0.1", "10.0.0.2", "fe80::1%en5"], []
    )


def test_a_name_that_does_not_resolve_is_told_and_the_others_count() -> None:
    resolved = found("nowhere.local", "10.0.0.1", nowhere=OSError("unknown"))
    assert resolved.addresses == ["10.0.0.1"]
    assert resolved.problems == [
        "nowhere.local does not resolve (unknown), so peers cannot dial this node by it",
    ]


def test_a_name_that_has_ipv6_only_is_used_and_its_consequence_told() -> None:
    resolved = found("mini.local", mini=["fe80::1%en5"])
    assert resolved.addresses == ["fe80::1%en5"]
    assert resolved.problems == [
        "mini.local resolves to IPv6 only (fe80::1%en5), so transports that speak IPv4 cannot use it"
    ]


def test_a_name_that_leads_back_to_this_machine_only_is_told() -> None:
    resolved = found("mini", mini=["127.0.1.1"])
    assert resolved.problems == ["mini resolves to 127.0.1.1, which only this machine itself can dial"]


def test_a_resolver_that_hangs_is_given_up_and_holds_up_neither_the_others_nor_the_end() -> None:
    release = threading.Event()

    def lookup(name: str) -> list[str]:
        if name == "slow":
            release.wait(30)
        return ["10.0.0.1"]

    begun = monotonic()
    resolved = asyncio.run(resolve(["slow", "quick"], lookup, limit_s=0.2))
    assert monotonic() - begun < 5.0
    release.set()
    assert resolved.addresses == ["10.0.0.1"]
    assert resolved.problems == ["slow was not resolved within 0.2 s, so peers cannot dial this node by it"]


def test_more_addresses_than_a_card_lists_are_cut_and_that_is_told() -> None:
    resolved = found("many", many=[f"10.0.0.{number}" for number in range(MAX_ADDRESSES + 3)])
    assert len(resolved.addresses) == MAX_ADDRESSES
    assert f"the first {MAX_ADDRESSES} are used" in resolved.problems[0]


def test_the_system_s_resolver_is_asked() -> None:
    assert "127.0.0.1" in look_up("localhost")
    (problem,) = asyncio.run(resolve(["a" * 64 + ".example"])).problems  # longer than a label may be: no query is sent
    assert "does not resolve" in problem
