"""What a lab looks like: names, addresses, and the commands that make it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lablib.errors import LabError

PREFIX = "novalab"
MAX_HOSTS = 16
INTERFACES = ("tb0", "en0")
WIFI = "wifi0"
"""Where a wrong route leads: an interface that is up, and where nobody answers."""

LINK_LOCAL = "169.254.0.0/16"
BITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
LEAST_BURST_BYTES = 64 << 10
"""Of the token bucket: a segmented 64 KiB packet passes at once."""
BURST_S = 0.001
"""A fast link's bucket holds what it carries in this time, so that the kernel's timer keeps up."""
QUEUE = "50ms"
"""Packets wait at most this long for their tokens; then they are dropped, as at a full switch."""


@dataclass(frozen=True)
class Plan:
    """One lab. `rate` and `delay` hold for each interface and direction; `cpu` is in percent of one CPU by host,
    hosts beyond its end have no quota; `names` says what mac-N.local resolves to."""

    id: str
    hosts: int = 2
    rate: str = ""
    delay: str = ""
    cpu: tuple[int, ...] = ()
    names: str = "ipv4"

    def __post_init__(self) -> None:
        """Raises LabError for a value that cannot be."""
        _require(bool(re.fullmatch(r"[a-z0-9]{1,20}", self.id)), f"id {self.id!r}: use 1 to 20 of a-z and 0-9")
        _require(1 <= self.hosts <= MAX_HOSTS, f"hosts {self.hosts}: use 1 to {MAX_HOSTS}")
        _require(not self.rate or bool(bits(self.rate)), f"rate {self.rate!r}: write it as 100mbit or 10gbit")
        timed = re.fullmatch(r"\d{1,6}(\.\d{1,6})?(us|ms|s)", self.delay)
        _require(not self.delay or bool(timed), f"delay {self.delay!r}: write it as 200us or 0.2ms")
        _require(all(1 <= each <= 10000 for each in self.cpu), f"cpu {self.cpu}: use percent of one CPU, 1 to 10000")
        _require(len(self.cpu) <= self.hosts, f"cpu has {len(self.cpu)} values for {self.hosts} hosts")
        _require(self.names in ("ipv4", "ipv6"), f"names {self.names!r}: use ipv4 or ipv6")

    @property
    def names_of_hosts(self) -> list[str]:
        return [f"mac-{number}" for number in range(1, self.hosts + 1)]

    @property
    def middle(self) -> str:
        """The namespace that holds the bridges."""
        return f"{PREFIX}-{self.id}-net"

    def namespace(self, host: str) -> str:
        """Raises LabError for a host that is not in this lab."""
        _require(host in self.names_of_hosts, f"no host {host!r}: there are {', '.join(self.names_of_hosts)}")
        return f"{PREFIX}-{self.id}-{host}"

    def addresses(self, host: str) -> dict[str, list[str]]:
        """By interface, IPv4 first."""
        number = self.number(host)
        return {
            "tb0": [f"169.254.85.{number}", f"fd77::{number:x}", f"fe80::77:{number:x}"],
            "en0": [f"10.77.0.{number}"],
        }

    def number(self, host: str) -> int:
        return self.names_of_hosts.index(self.namespace(host).removeprefix(f"{PREFIX}-{self.id}-")) + 1

    def port(self, host: str, interface: str) -> str:
        """The other end of a host's interface, at the bridge. Raises LabError for an interface that it has not."""
        _require(interface in INTERFACES, f"no interface {interface!r}: there are {', '.join(INTERFACES)}")
        return f"{interface}-{self.number(host)}"

    def hosts_file(self) -> str:
        """/etc/hosts of every host."""
        which = 0 if self.names == "ipv4" else 1
        lines = [f"{self.addresses(host)['tb0'][which]} {host}.local" for host in self.names_of_hosts]
        return "\n".join(["127.0.0.1 localhost", "::1 localhost", *lines]) + "\n"

    def percent(self, host: str) -> int | None:
        """The CPU quota of a host."""
        index = self.number(host) - 1
        return self.cpu[index] if index < len(self.cpu) else None


def bits(rate: str) -> int:
    """Bits per second of a rate like 10gbit; 0 for text that is none."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([kmg]?)bit", rate)
    return round(float(found[1]) * BITS[found[2]]) if found else 0


def building(plan: Plan) -> Iterator[list[str]]:
    """The commands that make namespaces, bridges, links and addresses, in order."""
    yield ["ip", "netns", "add", plan.middle]
    for interface in INTERFACES:
        yield ["ip", "-n", plan.middle, "link", "add", interface, "type", "bridge"]
        yield ["ip", "-n", plan.middle, "link", "set", interface, "up"]
    for host in plan.names_of_hosts:
        there = plan.namespace(host)
        yield ["ip", "netns", "add", there]
        yield ["ip", "-n", there, "link", "set", "lo", "up"]
        for interface in INTERFACES:
            port = plan.port(host, interface)
            at_bridge, at_host = ["ip", "-n", plan.middle], ["ip", "-n", there]
            yield [*at_bridge, "link", "add", port, "type", "veth", "peer", "name", interface, "netns", there]
            yield [*at_host, "link", "set", interface, "addrgenmode", "none"]
            yield [*at_bridge, "link", "set", port, "master", interface, "up"]
            yield [*at_host, "link", "set", interface, "up"]
            for address in plan.addresses(host)[interface]:
                yield [*at_host, "addr", "add", *_placed(address), "dev", interface]


def shaping(plan: Plan, host: str) -> Iterator[list[str]]:
    """The commands that limit what a host sends: delay first, then its rate, at each interface."""
    there = plan.namespace(host)
    for interface in INTERFACES:
        device = ["tc", "-n", there, "qdisc", "add", "dev", interface]
        where = ["root", "handle", "1:"]
        if plan.delay:
            yield [*device, *where, "netem", "delay", plan.delay, "limit", "100000"]
            where = ["parent", "1:1", "handle", "10:"]
        if plan.rate:
            burst = max(LEAST_BURST_BYTES, round(bits(plan.rate) / 8 * BURST_S))
            yield [*device, *where, "tbf", "rate", f"{bits(plan.rate)}bit", "burst", str(burst), "latency", QUEUE]


def routing(plan: Plan, host: str, right: bool) -> Iterator[list[str]]:
    """The commands that lead 169.254/16 to tb0 (right), or to an interface where nobody answers."""
    there, port = plan.namespace(host), f"{WIFI}-{plan.number(host)}"
    route = ["ip", "-n", there, "route", "replace", LINK_LOCAL]
    if right:
        address = plan.addresses(host)["tb0"][0]
        yield [*route, "dev", "tb0", "proto", "kernel", "scope", "link", "src", address]
        yield ["ip", "-n", there, "link", "del", WIFI]
        return
    yield ["ip", "-n", plan.middle, "link", "add", port, "type", "veth", "peer", "name", WIFI, "netns", there]
    yield ["ip", "-n", plan.middle, "link", "set", port, "up"]
    yield ["ip", "-n", there, "link", "set", WIFI, "up"]
    yield [*route, "dev", WIFI, "proto", "kernel", "scope", "link"]


def namespaces(listed: str, id_: str) -> list[str]:
    """A lab's namespaces among those that `ip netns list` printed."""
    names = [line.split()[0] for line in listed.splitlines() if line.strip()]
    return [name for name in names if name.startswith(f"{PREFIX}-{id_}-")]


def ids(names: Sequence[str]) -> list[str]:
    """The labs whose parts have these names, each once."""
    found = [re.fullmatch(rf"{PREFIX}-([a-z0-9]+)-[a-z0-9-]+", name) for name in names]
    return sorted({each[1] for each in found if each})


def _placed(address: str) -> list[str]:
    """The address with the length of its network, and how the system shall take it."""
    if ":" in address:
        return [f"{address}/64", "nodad"]  # usable at once: nobody else can have it
    return [f"{address}/16", "scope", "link"] if address.startswith("169.254.") else [f"{address}/24"]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise LabError(message)
