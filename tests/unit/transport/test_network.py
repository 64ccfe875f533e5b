from __future__ import annotations

import socket
from typing import NamedTuple

import psutil
import pytest

from nova.errors import TransportUnavailable
from nova.transport.network import domain, interface, is_ours, places, scoped, snapshot


class Entry(NamedTuple):
    """What psutil says about an address."""

    family: int
    address: str
    netmask: str | None


class State(NamedTuple):
    """What psutil says about an interface."""

    isup: bool


SIXTY_FOUR = "ffff:ffff:ffff:ffff::"


@pytest.fixture
def _mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Ethernet and a Thunderbolt cable."""
    have = {
        "lo0": [Entry(socket.AF_INET, "127.0.0.1", "255.0.0.0")],
        "en0": [
            Entry(psutil.AF_LINK, "aa:bb", None),
            Entry(socket.AF_INET, "10.1.2.3", "255.255.254.0"),
            Entry(socket.AF_INET6, "fd00::7", SIXTY_FOUR),
            Entry(socket.AF_INET6, "fe80::7%en0", SIXTY_FOUR),
        ],
        "en5": [
            Entry(socket.AF_INET, "169.254.85.210", "255.255.0.0"),
            Entry(socket.AF_INET6, "fe80::5%en5", SIXTY_FOUR),
        ],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: have)


def test_loopback_is_a_domain_of_this_machine() -> None:
    assert domain("127.0.0.1").startswith("loopback/")
    assert domain("127.0.0.1") == domain("127.0.0.5") == domain("::1")
    assert interface("127.0.0.5") == interface("127.0.0.1") != ""


@pytest.mark.usefixtures("_mac")
@pytest.mark.parametrize(
    ("host", "where", "name"),
    [
        ("10.1.2.3", "ip4/10.1.2.0/23", "en0"),
        ("fd00::7", "ip6/fd00::/64", "en0"),
        ("FD00:0::7", "ip6/fd00::/64", "en0"),
        ("169.254.85.210", "ip4/169.254.0.0/16", "en5"),
        ("fe80::5%en5", "ip6/fe80::/64", "en5"),
    ],
)
def test_another_address_is_in_the_network_of_its_netmask_and_on_its_interface(
    host: str, where: str, name: str
) -> None:
    assert (domain(host), interface(host)) == (where, name)


@pytest.mark.usefixtures("_mac")
@pytest.mark.parametrize("host", ["10.1.2.4", "fe80::5%en0"])
def test_a_foreign_address_is_refused_and_ours_are_listed(host: str) -> None:
    with pytest.raises(TransportUnavailable, match=rf"{host} is not an address of this machine.*10\.1\.2\.3 \(en0\)"):
        domain(host)


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("localhost", "numeric"),
        ("", "numeric"),
        ("0.0.0.0", "cannot dial"),
        ("::", "cannot dial"),
        ("224.0.0.1", "cannot dial"),
        ("fe80::1", "write its interface too, as in fe80::1%en5"),
    ],
)
def test_an_address_that_peers_cannot_dial_is_refused(host: str, why: str) -> None:
    with pytest.raises(TransportUnavailable, match=why):
        domain(host)


@pytest.mark.usefixtures("_mac")
def test_addresses_that_can_be_used_keep_their_order_and_one_that_cannot_hides_none() -> None:
    found = places(["169.254.85.210", "10.9.9.9", "10.1.2.3"])
    assert [(each.host, each.interface) for each in found] == [("169.254.85.210", "en5"), ("10.1.2.3", "en0")]
    with pytest.raises(TransportUnavailable, match=r"10\.9\.9\.9 is not an address.*; 'mini' is not a numeric"):
        places(["10.9.9.9", "mini"])
    with pytest.raises(TransportUnavailable, match=r"set transport\.hosts"):
        places([])


@pytest.mark.usefixtures("_mac")
@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("10.1.2.3", True),
        ("127.0.0.9", True),
        ("::1", True),
        ("fe80::5%whatever", True),
        ("10.1.2.4", False),
        ("fe80::6", False),
    ],
)
def test_an_address_of_this_machine_is_known_whatever_the_link_is_called(host: str, ours: bool) -> None:
    assert is_ours(host) is ours


def test_a_socket_s_link_local_address_gets_its_interface_s_name_back() -> None:
    number, name = socket.if_nameindex()[0]
    assert scoped(("fe80::1", 80, 0, number)) == f"fe80::1%{name}"
    assert scoped(("fe80::1%en5", 80, 0, number)) == "fe80::1%en5"
    assert scoped(("fd00::1", 80, 0, 0)) == "fd00::1"
    assert scoped(("10.0.0.1", 80)) == "10.0.0.1"


def test_the_snapshot_changes_when_an_interface_goes_down_or_an_address_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"en5": [Entry(socket.AF_INET, "169.254.1.1", "255.255.0.0")]}
    states = {"en5": State(True)}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: have)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: states)
    before = snapshot()
    assert before == snapshot()
    states["en5"] = State(False)
    down = snapshot()
    have["en5"].append(Entry(socket.AF_INET, "169.254.1.2", "255.255.0.0"))
    assert len({before, down, snapshot()}) == 3
