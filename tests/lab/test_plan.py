"""The lab's names, addresses and commands, without making one."""

from __future__ import annotations

import ipaddress
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lablib.errors import LabError
from lablib.plan import INTERFACES, MAX_HOSTS, Plan, bits, building, ids, namespaces, routing, shaping
from lablib.quota import mounted

IDS = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)
COUNTS = st.integers(1, MAX_HOSTS)
NETWORKS = {"tb0": "169.254.0.0/16", "en0": "10.77.0.0/24"}


@given(IDS, COUNTS)
def test_every_address_is_in_its_network_and_no_two_hosts_share_one(id_: str, hosts: int) -> None:
    plan = Plan(id_, hosts)
    every = []
    for host in plan.names_of_hosts:
        for interface, addresses in plan.addresses(host).items():
            assert ipaddress.ip_address(addresses[0]) in ipaddress.ip_network(NETWORKS[interface])
            every += addresses
    assert len(set(every)) == len(every)


@given(IDS, COUNTS)
def test_names_of_interfaces_fit_the_kernel_and_only_the_lab_s_own_namespaces_are_touched(id_: str, hosts: int) -> None:
    plan = Plan(id_, hosts, rate="1gbit", delay="1ms")
    ours = {plan.middle, *(plan.namespace(host) for host in plan.names_of_hosts)}
    commands = list(building(plan))
    for host in plan.names_of_hosts:
        commands += [*shaping(plan, host), *routing(plan, host, right=False), *routing(plan, host, right=True)]
        assert all(len(plan.port(host, interface)) <= 15 for interface in INTERFACES)
    assert {command[3] if command[1] == "netns" else command[2] for command in commands} == ours


@given(IDS, IDS, COUNTS)
def test_a_lab_finds_its_own_namespaces_and_no_other_s(one: str, other: str, hosts: int) -> None:
    plans = [Plan(id_, hosts) for id_ in {one, other}]
    made = list(chain.from_iterable((plan.middle, *map(plan.namespace, plan.names_of_hosts)) for plan in plans))
    listed = "\n".join(f"{name} (id: {number})" for number, name in enumerate([*made, "docker", "novalab"]))
    for plan in plans:
        assert sorted(namespaces(listed, plan.id)) == sorted(
            [plan.middle, *(plan.namespace(host) for host in plan.names_of_hosts)]
        )
    assert ids([*made, "docker", "novalab"]) == sorted({one, other})


@pytest.mark.parametrize(
    ("rate", "expected"),
    [("10gbit", 10**10), ("2.5gbit", 2_500_000_000), ("100mbit", 10**8), ("8bit", 8), ("10", 0), ("fast", 0), ("", 0)],
)
def test_a_rate_is_read_as_tc_writes_it(rate: str, expected: int) -> None:
    assert bits(rate) == expected


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"id": "a-b"}, "id"),
        ({"id": ""}, "id"),
        ({"hosts": 0}, "hosts"),
        ({"hosts": 17}, "hosts"),
        ({"rate": "10 gbit; rm"}, "rate"),
        ({"rate": "0gbit"}, "rate"),
        ({"delay": "soon"}, "delay"),
        ({"cpu": (0,)}, "cpu"),
        ({"cpu": (1, 2, 3)}, "3 values for 2 hosts"),
        ({"names": "mdns"}, "names"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_name(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(LabError, match=named):
        Plan(**{"id": "x", **wrong})  # type: ignore[arg-type]


def test_a_host_or_interface_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(LabError, match=r"no host 'mac-3': there are mac-1, mac-2"):
        Plan("x").namespace("mac-3")
    with pytest.raises(LabError, match=r"no interface 'en9': there are tb0, en0"):
        Plan("x").port("mac-1", "en9")


def test_with_a_delay_the_rate_comes_behind_it() -> None:
    first, second, *_ = shaping(Plan("x", rate="1gbit", delay="0.2ms"), "mac-1")
    assert first[7:13] == ["root", "handle", "1:", "netem", "delay", "0.2ms"]
    assert second[7:12] == ["parent", "1:1", "handle", "10:", "tbf"]


@pytest.mark.parametrize(
    ("mounts", "where", "version"),
    [
        ("cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0",
         "/sys/fs/cgroup/cpu", 1),
        ("cgroup /c cgroup rw,cpu,cpuacct 0 0", "/c", 1),
        ("proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0", "/sys/fs/cgroup", 2),
    ],
)  # fmt: skip
def test_the_cpu_controller_is_found_in_either_version(mounts: str, where: str, version: int) -> None:
    found = mounted(mounts)
    assert found is not None
    assert (str(found.root), found.version) == (where, version)


@pytest.mark.parametrize("mounts", ["", "cgroup /c cgroup rw,cpuset,cpuacct 0 0", "garbage"])
def test_without_a_cpu_controller_there_is_none(mounts: str) -> None:
    assert mounted(mounts) is None
