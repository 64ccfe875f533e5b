"""What a machine's facts mean, for machines that could be and for those that were recorded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from nova_transport_jaccl.facts import Facts, Gid, Mlx, Peer, Port
from nova_transport_jaccl.verdict import Usable, alike, judge

from tests.unit.plugins.jaccl.machines import RECORDED, mac, port, recorded, recorded_only
from tests.unit.plugins.jaccl.samples import bus, other_mac, profile

WITHOUT = Mlx("0.32.4")


def slow(gbit: float, behind: str = "") -> dict[str, Any]:
    return {"peers": (Peer("END-B", "Mac Studio", True, gbit, behind),)}


def old(number: int, **changes: Any) -> Port:
    """A Thunderbolt 4 port."""
    return port(number, **{"generation": 4, "link_gbit": 40.0, **slow(40.0), **changes})


def test_a_port_in_order_is_usable_at_the_address_of_its_gid() -> None:
    verdict = judge(mac(port(6, "END-A", "END-B")))
    assert verdict.ports == (Usable("rdma_en6", "en6", "169.254.0.6", "END-A", "END-B"),)
    assert verdict.reason == ""


def test_an_rdma_ctl_that_does_not_answer_is_no_reason_where_the_port_is_active() -> None:
    assert judge(mac(hung=("rdma_ctl",), rdma_ctl="timed out")).reason == ""


def test_where_mlx_has_jaccl_no_operating_system_is_asked_for() -> None:
    assert judge(mac(macos="")).reason == ""


MACHINES: list[tuple[Facts, str]] = [
    (mac(macos="", mlx=WITHOUT), "not macOS"),
    (mac(macos="26.1"), "update this Mac to macOS 26.2"),
    (mac(macos="15.7.1", mlx=WITHOUT), "update this Mac"),
    (mac(mlx=WITHOUT), "install the MLX wheel"),
    (mac(old(1)), "Thunderbolt 4 or older"),
    (mac(rdma_ctl="disabled"), "Recovery"),
    (mac(ports=()), "no Thunderbolt port is known: none is listed"),
    (mac(ports=(), failed={"system_profiler": "it ended with status 1"}), "it ended with status 1"),
    (mac(hung=("ibv_devinfo",)), "ibv_devinfo does not answer"),
    (mac(hung=("ibv_devices",)), "disconnect its power"),
    (mac(macos="", failed={"sw_vers": "sw_vers did not answer within 4 s"}), "version of macOS is not known"),
    (mac(port(1, link_gbit=None, peers=())), "nothing is connected"),
    (mac(port(1, peers=())), "no Mac is seen at the other end"),
    (mac(port(1, peers=(Peer("B"), Peer("C")))), "several Macs"),
    (mac(port(1, link_gbit=40.0, **slow(40.0))), "runs at 40 Gb/s"),
    (mac(port(1, **slow(40.0, "Dock 7"))), "through Dock 7 runs at 40 Gb/s"),
    (mac(port(1, uuid="")), "domain UUID"),
    (mac(port(1, interface="")), "no network interface"),
    (mac(port(1, device="")), "no RDMA device"),
    (mac(port(1, state="PORT_DOWN")), "re-plug"),
    (mac(port(1, state="PORT_DOWN", peers=(Peer("B", "Anna", False, 80.0),))), "Anna does not show RDMA"),
    (mac(port(1, state="unknown")), "ibv_devinfo does not show the state"),
    (mac(port(1, gids=(Gid(0, "fe80::1"),))), "no IPv4-mapped GID at index 1"),
    (mac(port(1, gids=(), bridge="bridge0")), "out of bridge0"),
    (mac(port(1, gids=(Gid(1, "fe80::1"), Gid(2, "::ffff:192.0.2.1")))), "is at index 2"),
]


@pytest.mark.parametrize(("facts", "words"), MACHINES)
def test_a_machine_that_cannot_has_one_clear_reason(facts: Facts, words: str) -> None:
    verdict = judge(facts)
    assert verdict.ports == ()
    assert words in verdict.reason
    assert "\n" not in verdict.reason


def test_the_reason_is_that_of_the_port_that_came_nearest() -> None:
    facts = mac(port(1, link_gbit=None, peers=()), port(2, state="PORT_DOWN"), port(3, **slow(40.0)))
    verdict = judge(facts)
    assert verdict.reason.startswith("Thunderbolt 2 (en2): PORT_DOWN")
    assert len(verdict.refused) == 3


def test_one_usable_port_is_enough() -> None:
    verdict = judge(mac(port(1, link_gbit=None, peers=()), port(2)))
    assert [one.device for one in verdict.ports] == ["rdma_en2"]


@pytest.mark.parametrize(
    "facts",
    [
        mac(old(1)),
        mac(old(1), rdma_ctl="disabled"),
        mac(old(1), rdma_ctl="missing", macos="15.1"),
        mac(old(1, device="", state="unknown", link_gbit=None, peers=())),
        mac(old(1, generation=None), old(2, generation=None)),
        mac(old(1, generation=3), rdma_ctl="disabled"),
    ],
)
def test_the_owner_of_thunderbolt_4_is_never_sent_to_recovery(facts: Facts) -> None:
    reason = judge(facts).reason
    assert "Thunderbolt 5" in reason
    for word in ("rdma_ctl enable", "Recovery", "restart", "update", "install", "cable"):
        assert word not in reason


def test_signs_of_rdma_on_thunderbolt_4_are_called_vain() -> None:
    assert "that rdma_ctl says enabled or RDMA devices exist changes nothing" in judge(mac(old(1))).reason


def test_spent_starts_are_a_reason_and_fewer_are_none() -> None:
    assert judge(mac(), failed_starts=4, most_failed=5).reason == ""
    verdict = judge(mac(), failed_starts=5, most_failed=5)
    assert verdict.ports == ()
    assert "5 starts of JACCL have failed" in verdict.reason
    assert "restart this Mac" in verdict.reason


def test_macs_on_both_sides_of_26_3_are_not_alike() -> None:
    versions = ("26.2", "26.2.9", "26.3", "26.10", "27.0", "")
    frames = [alike(mac(macos=version))["macOS frames"] for version in versions]
    assert frames == ["4 KiB", "4 KiB", "512 KiB", "512 KiB", "512 KiB", "512 KiB"]
    assert alike(mac())["mlx"] == "0.32.4"


def test_facts_survive_their_way_through_json() -> None:
    for facts, _ in MACHINES:
        assert msgspec.json.decode(msgspec.json.encode(facts), type=Facts) == facts


# --- recorded machines -----------------------------------------------------------------------------------------------


@recorded_only
def test_recorded_thunderbolt_4_with_rdma_enabled_can_never_work() -> None:
    idle = (RECORDED / "tb4-macbookpro-idle/system_profiler-SPThunderboltDataType.onebus.json").read_text()
    reason = judge(recorded("tb4-m4macmini-rdma-enabled-macos26.5.1", system_profiler=idle)).reason
    assert "Thunderbolt 4 or older" in reason
    assert "that rdma_ctl says enabled changes nothing" in reason
    assert "rdma_ctl enable" not in reason


@recorded_only
@pytest.mark.parametrize("folder", ["tb4-macbookpro-idle", "tb4-host-two-macs-one-audio-anonymised"])
def test_recorded_thunderbolt_4_is_refused_without_advice_to_enable(folder: str) -> None:
    reason = judge(recorded(folder, rdma_ctl="disabled")).reason
    assert "Thunderbolt 5" in reason
    assert "Recovery" not in reason


@recorded_only
def test_recorded_thunderbolt_5_with_rdma_disabled_is_sent_to_recovery() -> None:
    assert "Recovery" in judge(recorded("tb5-m5max-pair-macos27/local-rdma-disabled", macos="27.0")).reason


@recorded_only
def test_recorded_port_down_names_the_other_mac_and_what_to_do_there() -> None:
    verdict = judge(recorded("tb5-m5max-pair-macos27/peer-rdma-enabled", macos="27.0"))
    assert verdict.reason.startswith("Thunderbolt 2 (en6): PORT_DOWN, and MacBook Pro does not show RDMA")
    assert len(verdict.refused) == 3


@recorded_only
def test_recorded_idle_machines_have_no_cable() -> None:
    assert "nothing is connected" in judge(recorded("tb5-macbookpro-idle-macos26.6.1", rdma_ctl="enabled")).reason


@recorded_only
@pytest.mark.parametrize(("prefix", "device"), [("m3ultra-", "rdma_en7"), ("m4max-", "rdma_en2")])
def test_of_a_recorded_direct_cable_and_one_through_a_dock_only_the_direct_one_is_usable(
    prefix: str, device: str
) -> None:
    devinfo = "".join(
        f"hca_id: rdma_en{number}\nstate: PORT_ACTIVE (4)\nGID[  1]: ::ffff:169.254.9.{number}\n"
        for number in range(1, 8)
    )
    facts = recorded("tb5+tb4-dock-m3ultra--m4max", prefix, rdma_ctl="enabled", ibv_devinfo=devinfo)
    whole = [  # the publisher left the UUIDs out
        msgspec.structs.replace(
            one, uuid="END-A", peers=tuple(msgspec.structs.replace(peer, uuid="END-B") for peer in one.peers)
        )
        for one in facts.ports
    ]
    verdict = judge(msgspec.structs.replace(facts, ports=tuple(whole)))
    assert [one.device for one in verdict.ports] == [device]
    assert any("runs at 40 Gb/s" in reason for reason in verdict.refused)


@recorded_only
def test_a_recorded_hub_and_disk_are_no_macs() -> None:
    place = RECORDED / "tb5-m5max-macbook--m3ultra-studio/studio-system_profiler-SPThunderboltDataType.json"
    assert "Envoy Ultra" in json.dumps(json.loads(place.read_text()))
    verdict = judge(recorded("tb5-m5max-macbook--m3ultra-studio", "studio-", rdma_ctl="enabled"))
    assert any("no Mac is seen at the other end" in reason for reason in verdict.refused)


@recorded_only
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("ibv_devinfo-v-d-rdma_en7.mapped-gid-at-2.txt", "at index 2"),
        ("ibv_devinfo-v-d-rdma_en6.no-ipv4-gid.txt", "no IPv4-mapped GID"),
    ],
)
def test_modelled_gid_tables_without_ipv4_at_index_1_are_refused(file: str, words: str) -> None:
    number = 7 if "en7" in file else 6
    devinfo = (RECORDED / "modelled-ibv_devinfo-v" / file).read_text()
    facts = recorded("modelled-ibv_devinfo-v", ibv_devinfo=devinfo, system_profiler=_one_port(number),
                     rdma_ctl="enabled",
                     networksetup=f"Hardware Port: Thunderbolt 1\nDevice: en{number}\n")  # fmt: skip
    assert words in judge(facts).reason


def _one_port(number: int) -> str:
    return profile(bus(1, "80 Gb/s", other_mac(f"END-{number}")))
