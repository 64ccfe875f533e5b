"""Every parser, over made-up samples and over what was recorded."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nova_transport_jaccl.facts import Gid, Peer, Port
from nova_transport_jaccl.parsing.network import ifconfig, networksetup, sw_vers
from nova_transport_jaccl.parsing.thunderbolt import thunderbolt
from nova_transport_jaccl.parsing.verbs import ibv_devices, ibv_devinfo, rdma_ctl

from tests.unit.plugins.jaccl import samples
from tests.unit.plugins.jaccl.machines import RECORDED, recorded_only
from tests.unit.plugins.jaccl.samples import bus, dock, other_mac, profile


def text(path: str) -> str:
    return (RECORDED / path).read_text()


def test_a_mac_a_disk_and_an_empty_port_are_told_apart() -> None:
    disk = {"_name": "Disk", "mode_key": "usb_four_v2", "switch_uid_key": "0x2"}
    seen = thunderbolt(profile(bus(3, "80 Gb/s", disk), bus(2, "80 Gb/s", other_mac("B")), bus(1, "Up to 120 Gb/s")))
    assert seen == [
        Port("1", 5, None, "AAAAAAAA-0000-4000-8000-000000000001"),
        Port("2", 5, 80.0, "AAAAAAAA-0000-4000-8000-000000000002", (Peer("B", "Mac Studio", True, 80.0),)),
        Port("3", 5, 80.0, "AAAAAAAA-0000-4000-8000-000000000003"),
    ]


def test_a_mac_behind_a_dock_is_found_at_the_speed_of_the_slowest_link() -> None:
    (port,) = thunderbolt(profile(bus(1, "80 Gb/s", dock("40 Gb/s", other_mac("B", rdma=False)))))
    assert port.link_gbit == 80.0
    assert port.peers == (Peer("B", "Mac Studio", False, 40.0, "Dock 7"),)


def test_the_text_form_says_the_same_as_the_json_form() -> None:
    mac, dock_in_json = other_mac("BBBBBBBB-0000-4000-8000-000000000001"), "40 Gb/s"
    json_form = profile(bus(2, "80 Gb/s", dock(dock_in_json, mac)), bus(1, "Up to 120 Gb/s"))
    assert thunderbolt(samples.TEXT) == thunderbolt(json_form)


@pytest.mark.parametrize(
    ("speeds", "generations"),
    [
        (["Up to 40 Gb/s", "40 Gb/s"], [4, 4]),
        (["Up to 120 Gb/s", "40 Gb/s"], [5, 5]),
        (["80 Gb/s", "20 Gb/s"], [5, 5]),
        (["40 Gb/s", "40 Gb/s"], [None, None]),
    ],
)
def test_a_port_at_40_gbit_has_the_generation_that_the_other_ports_show(
    speeds: list[str], generations: list[int | None]
) -> None:
    seen = thunderbolt(profile(*(bus(number, speed) for number, speed in enumerate(speeds, start=1))))
    assert [port.generation for port in seen] == generations


@pytest.mark.parametrize(
    "output", ["", "{", "[]", '{"SPThunderboltDataType": 3}', "nothing of the kind", '{"a":' * 5000]
)
def test_what_is_no_listing_is_refused(output: str) -> None:
    with pytest.raises(ValueError, match="system_profiler printed"):
        thunderbolt(output)


def test_devices_states_and_gids_are_read_in_the_order_of_the_listing() -> None:
    assert ibv_devices(samples.IBV_DEVICES) == ["rdma_en3", "rdma_en2"]
    devices = ibv_devinfo(samples.IBV_DEVINFO)
    assert {name: device.state for name, device in devices.items()} == {
        "rdma_en3": "PORT_DOWN",
        "rdma_en2": "PORT_ACTIVE",
    }
    assert devices["rdma_en2"].gids[1] == Gid(1, "::ffff:169.254.7.8")
    assert [gid.ipv4 for gid in devices["rdma_en2"].gids] == ["", "169.254.7.8", ""]


def test_a_long_gid_table_is_cut() -> None:
    table = "hca_id: rdma_en2\n" + "".join(f"GID[{index:3d}]: fe80::{index:x}\n" for index in range(1024))
    assert [gid.index for gid in ibv_devinfo(table)["rdma_en2"].gids] == list(range(16))


@pytest.mark.parametrize(
    ("output", "state"),
    [("enabled\n", "enabled"), ("Disabled\n", "disabled"), ("RDMA is disabled", "disabled"), ("?", "unknown")],
)
def test_rdma_ctl_status_is_read(output: str, state: str) -> None:
    assert rdma_ctl(output) == state


def test_receptacles_interfaces_addresses_and_bridges_are_read() -> None:
    assert networksetup(samples.NETWORKSETUP) == {"1": "en3", "4": "en2"}
    interfaces = ifconfig(samples.IFCONFIG)
    assert interfaces.ipv4["en2"] == ["169.254.7.8", "10.0.5.1"]
    assert interfaces.bridge == {"en3": "bridge0"}
    assert sw_vers("ProductVersion:\t26.5.1\n") == "26.5.1"
    assert sw_vers("?\n") == ""


@given(st.text())
def test_no_text_breaks_a_parser(output: str) -> None:
    for parser in (ibv_devices, ibv_devinfo, rdma_ctl, networksetup, ifconfig, sw_vers):
        parser(output)
    try:
        msgspec.json.encode(thunderbolt(output))
    except ValueError as error:
        assert "system_profiler" in str(error)  # noqa: PT017  either outcome is right, a strange error is not


@recorded_only
def test_recorded_macs_see_each_other_by_the_uuids_of_one_cable() -> None:
    place = "tb5-m5max-pair-macos27"
    local = thunderbolt(text(f"{place}/local-rdma-disabled/system_profiler-SPThunderboltDataType.json"))
    peer = thunderbolt(text(f"{place}/peer-rdma-enabled/system_profiler-SPThunderboltDataType.json"))
    ours, theirs = local[1], peer[1]
    assert (ours.uuid, ours.peers[0].uuid) == (theirs.peers[0].uuid, theirs.uuid)
    assert (ours.peers[0].rdma, theirs.peers[0].rdma) == (True, False)
    assert [port.link_gbit for port in local] == [None, 80.0, 80.0]  # a hub without a Mac is on the third
    assert local[2].peers == ()
    assert [port.link_gbit for port in peer] == [None, 80.0, 40.0]


@recorded_only
def test_a_recorded_mac_behind_a_dock_is_found_and_slow() -> None:
    seen = thunderbolt(text("tb5+tb4-dock-m3ultra--m4max/m3ultra-system_profiler-SPThunderboltDataType.trimmed.json"))
    peers = {port.receptacle: port.peers for port in seen}
    assert peers["3"] == (Peer("", "MacBook Pro", True, 40.0, "ThunderBay Flex 8"),)
    assert peers["6"] == (Peer("", "MacBook Pro", True, 80.0),)
    assert {port.generation for port in seen} == {5}


@recorded_only
def test_the_recorded_text_form_is_read() -> None:
    folder = "tb5-m4pro-mini--m4max-studio-exo1390"
    (port,) = thunderbolt(text(f"{folder}/system_profiler-SPThunderboltDataType.partial.txt"))
    assert port == Port(
        "3", 5, 80.0, "7F158861-C131-4D0D-83B6-CA50EF76C32B",
        (Peer("88F10ACA-5CAA-4F5D-8361-03EED54ACB5A", "Mac Studio", True, 80.0),),
    )  # fmt: skip


@recorded_only
@pytest.mark.parametrize(
    ("path", "interfaces"),
    [
        ("tb5-m5max-pair-macos27", {"1": "en1", "2": "en6", "3": "en2"}),
        ("networksetup-others/macmini-skulk-kite2-thunderbolt-124.txt", {"1": "en2", "2": "en3", "4": "en4"}),
        ("networksetup-others/macstudio-m4max-4tb-bridge.txt", {"1": "en2", "2": "en3", "3": "en4", "4": "en5"}),
    ],
)
def test_recorded_receptacles_have_gaps_and_no_order(path: str, interfaces: dict[str, str]) -> None:
    file = path if path.endswith(".txt") else f"{path}/networksetup-listallhardwareports.txt"
    assert networksetup(text(file)) == interfaces


@recorded_only
@pytest.mark.parametrize(
    ("path", "devices"),
    [
        ("tb5-m3ultra-rdma-enabled-mlxdocs", ["en2", "en3", "en5", "en4", "en6", "en7"]),
        ("tb5-m5max-pair-macos27/peer-rdma-enabled", ["en1", "en6", "en2"]),
        ("tb5-m5max-pair-macos27/local-rdma-disabled", []),
        ("tb4-m4macmini-rdma-enabled-macos26.5.1", []),
    ],
)
def test_recorded_devices_are_listed_in_their_own_order(path: str, devices: list[str]) -> None:
    assert ibv_devices(text(f"{path}/ibv_devices.txt")) == [f"rdma_{name}" for name in devices]


@recorded_only
def test_recorded_states_and_gids_are_read_from_every_layout() -> None:
    down = ibv_devinfo(text("tb5-m5max-pair-macos27/peer-rdma-enabled/ibv_devinfo.txt"))
    assert {name: device.state for name, device in down.items()} == dict.fromkeys(
        ["rdma_en1", "rdma_en6", "rdma_en2"], "PORT_DOWN"
    )
    one_line = ibv_devinfo(text("apple-tn3205/ibv_devinfo-d-rdma_en2-v.elided.txt"))["rdma_en2"]
    assert one_line.state == "PORT_ACTIVE"
    assert one_line.gids[1].ipv4 == "169.254.205.255"
    late = ibv_devinfo(text("modelled-ibv_devinfo-v/ibv_devinfo-v-d-rdma_en7.mapped-gid-at-2.txt"))["rdma_en7"]
    assert [gid.index for gid in late.gids if gid.ipv4] == [2]
    assert ibv_devinfo(text("tb4-m4macmini-rdma-enabled-macos26.5.1/ibv_devinfo.txt")) == {}


@recorded_only
def test_recorded_interfaces_and_bridges_are_read() -> None:
    assert ifconfig(text("apple-tn3205/ifconfig-en2-tb.txt")).ipv4 == {"en2": ["169.254.205.255"]}
    assert ifconfig(text("apple-tn3205/ifconfig-bridge0.elided.txt")).bridge == dict.fromkeys(
        ["en2", "en3", "en4"], "bridge0"
    )
