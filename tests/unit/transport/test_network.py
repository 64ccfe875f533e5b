from __future__ import annotations

import socket
from typing import NamedTuple

import psutil
import pytest

from nova.errors import TransportUnavailable
from nova.transport.network import domain


class Entry(NamedTuple):
    """What psutil says about an address."""

    family: int
    address: str
    netmask: str | None


def test_loopback_is_a_domain_of_this_machine() -> None:
    assert domain("127.0.0.1").startswith("loopback/")
    assert domain("127.0.0.1") == domain("127.0.0.5") == domain("::1")


def test_another_address_is_in_the_network_of_its_netmask(monkeypatch: pytest.MonkeyPatch) -> None:
    six = "ffff:ffff:ffff:ffff::"
    four = Entry(socket.AF_INET, "10.1.2.3", "255.255.254.0")
    have = {"en0": [Entry(psutil.AF_LINK, "aa:bb", None), four, Entry(socket.AF_INET6, "fd00::7", six)]}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: have)
    assert domain("10.1.2.3") == "ip4/10.1.2.0/23"
    assert domain("fd00::7") == "ip6/fd00::/64"
    with pytest.raises(
        TransportUnavailable, match=r"10\.1\.2\.4 is not an address of this machine.*10\.1\.2\.3 \(en0\)"
    ):
        domain("10.1.2.4")


@pytest.mark.parametrize(
    ("host", "why"), [("localhost", "numeric"), ("", "numeric"), ("0.0.0.0", "cannot dial"), ("fe80::1", "cannot dial")]
)
def test_an_address_that_peers_cannot_dial_is_refused(host: str, why: str) -> None:
    with pytest.raises(TransportUnavailable, match=why):
        domain(host)
