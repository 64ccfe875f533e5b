"""The options, and what a node offers."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from nova_transport_ring import RingConfig, RingTransport
from nova_transport_ring import transport as module

from nova.errors import ConfigError, TransportUnavailable
from nova.transport.registry import load_transport


@pytest.mark.parametrize(("ports", "expected"), [("7000-7002", range(7000, 7003)), ([7000, 7000], range(7000, 7001))])
def test_ports_are_a_range_as_text_or_as_two_numbers(ports: object, expected: range) -> None:
    assert load_transport("ring", {"ports": ports}).config.port_range == expected


@pytest.mark.parametrize("ports", ["", "7000", "7001-7000", "0-10", "1-65536", "a-b", "-5-9", [7001, 7000], [-1, 5]])
def test_ports_that_are_no_range_are_refused(ports: object) -> None:
    with pytest.raises(ConfigError, match=r"transport\.options\.ring: ports must be first-last within 1-65535"):
        load_transport("ring", {"ports": ports})


def test_each_ipv4_address_of_this_machine_is_an_attachment_in_order() -> None:
    info = RingTransport(RingConfig()).probe(["127.0.0.2", "::1", "127.0.0.1", "127.0.0.2"])
    assert [each.address for each in info.attachments] == ["127.0.0.2", "127.0.0.1"]
    assert all(each.domain.startswith("loopback/") and each.interface for each in info.attachments)
    assert info.alike == {"mlx": version("mlx")}


def test_without_an_ipv4_address_the_reason_names_what_there_is() -> None:
    with pytest.raises(TransportUnavailable, match=r"IPv4 only, and not to fe80::1%en5, mini\.local: put an IPv4"):
        RingTransport(RingConfig()).probe(["fe80::1%en5", "mini.local"])


def test_an_ipv4_address_of_another_machine_is_refused_by_name() -> None:
    with pytest.raises(TransportUnavailable, match=r"198\.51\.100\.7 is not an address of this machine.* not to ::1"):
        RingTransport(RingConfig()).probe(["198.51.100.7", "::1"])


def test_a_node_without_any_address_is_told_to_give_one() -> None:
    with pytest.raises(TransportUnavailable, match="this node has no address: put an IPv4 address"):
        RingTransport(RingConfig()).probe([])


@pytest.mark.parametrize("old", ["0.31.2", "0.32.0", "0.9"])
def test_an_mlx_that_does_not_see_a_peer_s_death_is_refused(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "version", lambda name: old)
    with pytest.raises(TransportUnavailable, match=rf"MLX {old} spins for ever .* install 0\.32\.1 or newer"):
        RingTransport(RingConfig()).probe(["127.0.0.1"])


@pytest.mark.parametrize("fresh", ["0.32.1", "0.32.1.dev20261101", "0.33", "1.0.0"])
def test_a_newer_mlx_is_taken(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "version", lambda name: fresh)
    assert RingTransport(RingConfig()).probe(["127.0.0.1"]).alike == {"mlx": fresh}


def test_loading_the_plugin_does_not_import_mlx() -> None:
    code = "import sys, nova_transport_ring as r; r.RingTransport(r.RingConfig()); print('mlx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "False"
