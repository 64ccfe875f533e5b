"""P: the probe."""

from __future__ import annotations

import math

from nova.errors import TransportUnavailable
from nova.testing.case import case
from nova.testing.checks import Background, check
from nova.testing.rank import Rank
from nova.transport.api import Caps, TransportInfo

PROBE_S = 10.0
"""s; the default of `transport.probe_s`, after which a node ends a probe."""

FOREIGN: tuple[tuple[str, ...], ...] = (("203.0.113.7",), ("2001:db8::7",), ("no address",), ("",), ())
"""Hosts that are not this machine's: addresses for documentation (RFC 5737, RFC 3849), text, and none at all."""


@case(ranks=1)
def P1_a_probe_says_who_it_is(rank: Rank) -> None:
    """A probe answers in time with the class's name, version and api, and the capabilities of the groups."""
    info = Background(lambda: rank.transport.probe(rank.seat.hosts)).result(PROBE_S)
    plugin = type(rank.transport)
    said, wanted = (info.name, info.version, info.api), (plugin.name, plugin.version, plugin.api)
    check(said == wanted, f"the probe says {said}, the class {wanted}")
    check(isinstance(info.caps, Caps), f"caps are {info.caps!r}")
    check(info.caps == rank.caps, f"the probe declares {info.caps!r}, expected are {rank.caps!r}")
    check(bool(info.collectives) == (Caps.COLLECTIVES in info.caps), f"collectives are {info.collectives}")


@case(ranks=1)
def P2_attachments_are_complete(rank: Rank) -> None:
    """Each attachment has a domain, an address and positive estimates; the order is that of the hosts."""
    info = rank.transport.probe(rank.seat.hosts)
    check(info.attachments, "an available transport has no attachment")
    for each in info.attachments:
        check(each.domain and each.address, f"{each} lacks its domain or address")
        figures = (each.latency_s, each.bandwidth_bytes_s)
        check(all(0 < one < math.inf for one in figures), f"the estimates of {each.address} are {figures}")
    hosts = [each.address for each in info.attachments if each.address in rank.seat.hosts]
    check(hosts == sorted(hosts, key=rank.seat.hosts.index), f"attachments are in the order {hosts}")


@case(ranks=1)
def P3_a_probe_raises_only_its_reason(rank: Rank) -> None:
    """Where it is unavailable a probe raises TransportUnavailable with the reason, and nothing else."""
    for hosts in FOREIGN:
        try:
            info = Background(lambda hosts=hosts: rank.transport.probe(hosts)).result(PROBE_S)  # type: ignore[misc]
        except TransportUnavailable as error:
            check(str(error).strip(), f"TransportUnavailable for hosts {hosts} has no reason")
        else:
            check(isinstance(info, TransportInfo), f"probing {hosts} returned {info!r}")


@case(ranks=1)
def P4_a_probe_leaves_nothing(rank: Rank) -> None:
    """A probe leaves no descriptor, thread or child behind."""
    rank.transport.probe(rank.seat.hosts)  # what is made once for all, such as MLX's own threads
    with rank.nothing_left():
        for _ in range(3):
            rank.transport.probe(rank.seat.hosts)
