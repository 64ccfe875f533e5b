"""Which transport connects these nodes: a pure function of their offers, the policy, and what was measured.

A transport is judged step by step, and the first thing against it is its reason: the policy names it, every node offers
it, its versions agree, it can do what the engines need, each pair of nodes that it must connect shares a network, and
that network may be used for it. What is left is ranked: by the policy's order, then by the expected time of a
message on the worst link, then by name.

A transport that moves arrays only needs a second one beside it, which moves bytes: its side channel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf

from nova.config.schema import Transport as Policy
from nova.transport import trust
from nova.transport.api import Caps
from nova.transport.offers import names
from nova.wire.values import AttachmentOffer, LinkMeasure, TransportOffer

MESSAGE_BYTES = 16 << 10
"""What a decode step sends: a hidden state 8192 wide, in 16 bits."""

FRAMES = Caps.BYTES | Caps.DEADLINE | Caps.ABORT | Caps.PEER_FAILURE | Caps.FULL_DUPLEX
"""What carries an engine's headers: it waits for the next one in one thread and sends from another."""

Offers = Mapping[str, Sequence[TransportOffer]]
"""By node, in pipeline order: each must reach the next, and the last the first."""

Measured = Mapping[tuple[str, str, str], LinkMeasure]
"""By transport, source and target: what VERIFY found."""


@dataclass(frozen=True)
class Candidate:
    """A transport that can connect the nodes. `hosts` are the addresses by node that it may use, best first;
    `side` is the candidate that carries its headers, None for one that moves bytes itself."""

    name: str
    hosts: Mapping[str, Sequence[str]]
    cost_s: float
    measured: bool
    side: Candidate | None = None


@dataclass(frozen=True)
class Selection:
    """`ranked` is best first; every other transport that anybody named is in `rejected`, with the reason."""

    ranked: list[Candidate]
    rejected: dict[str, str]


class Unfit(Exception):
    """The first reason against a transport."""


def select(offers: Offers, policy: Policy, measured: Measured | None = None) -> Selection:
    """Judge every transport that the policy or any node names. The order of a node's offers decides nothing."""
    offered = {offer.name for node in offers.values() for offer in node} - set(policy.side)  # asked for that alone
    sides, ranked, rejected = _sides(offers, policy, measured or {}), list[Candidate](), dict[str, str]()
    for name in sorted({*policy.allowed, *policy.order, *policy.deny, *offered}):
        try:
            ranked.append(_main(name, offers, policy, measured or {}, sides))
        except Unfit as reason:
            rejected[name] = str(reason)
    order = {name: index for index, name in enumerate(policy.order)}
    ranked.sort(key=lambda each: (order.get(each.name, len(order)), each.cost_s, each.name))
    return Selection(ranked, rejected)


def _sides(offers: Offers, policy: Policy, measured: Measured) -> dict[str, Candidate | str]:
    """Every transport that may carry headers, best first, or the reason against it."""
    found: dict[str, Candidate | str] = {}
    for name in policy.side:
        try:
            if name in policy.deny:
                raise Unfit("transport.deny names it")
            found[name] = _candidate(name, _of_all(name, offers), policy, measured, FRAMES)
        except Unfit as reason:
            found[name] = str(reason)
    return found


def _main(
    name: str, offers: Offers, policy: Policy, measured: Measured, sides: Mapping[str, Candidate | str]
) -> Candidate:
    """Raises Unfit."""
    if name in policy.deny:
        raise Unfit("transport.deny names it")
    if name not in policy.allowed:
        raise Unfit(f"not in transport.{'allow' if policy.allow else 'order'}")
    chosen = _of_all(name, offers)
    if all("BYTES" in offer.caps for offer in chosen.values()):
        return _candidate(name, chosen, policy, measured, FRAMES)
    found = _candidate(name, chosen, policy, measured, Caps.ARRAYS)
    side = next((each for each in sides.values() if isinstance(each, Candidate)), None)
    if side is None:
        reasons = "; ".join(f"{other}: {why}" for other, why in sides.items()) or "transport.side is empty"
        raise Unfit(f"it moves arrays only, and nothing can carry its headers: {reasons}")
    return Candidate(name, found.hosts, found.cost_s, found.measured, side)


def _candidate(
    name: str, chosen: Mapping[str, TransportOffer], policy: Policy, measured: Measured, required: Caps
) -> Candidate:
    """Raises Unfit."""
    _agree(chosen)
    _can(chosen, required)
    shared = {edge: _shared(edge, chosen, policy) for edge in _edges(chosen)}
    costs = [_cost(name, edge, chosen, shared.get(edge) or shared[edge[::-1]], measured) for edge in _ring(chosen)]
    cost_s, known = max((cost for cost, _ in costs), default=0.0), all(is_known for _, is_known in costs)
    domains = {domain for each in shared.values() for domain in each}
    hosts = {
        node: [each.address for each in offer.attachments if each.domain in domains] for node, offer in chosen.items()
    }
    return Candidate(name, hosts, cost_s, bool(costs) and known)


def _of_all(name: str, offers: Offers) -> dict[str, TransportOffer]:
    """Each node's offer of it. Raises Unfit when one has none."""
    chosen: dict[str, TransportOffer] = {}
    for node, every in offers.items():
        of_name = [offer for offer in every if offer.name == name]
        if not of_name:
            raise Unfit(f"{node} does not offer it")
        if len(of_name) > 1:
            raise Unfit(f"{node} offers it more than once")
        if of_name[0].unavailable is not None:
            raise Unfit(f"unavailable on {node}: {of_name[0].unavailable}")
        chosen[node] = of_name[0]
    return chosen


def _agree(chosen: Mapping[str, TransportOffer]) -> None:
    """Versions are equal in their first number, and what the plugin wants alike is alike. Raises Unfit."""
    told: dict[str, dict[str, str]] = {
        "API major": {node: str(offer.api[0]) for node, offer in chosen.items()},
        "version major": {node: offer.version.partition(".")[0] for node, offer in chosen.items()},
    }
    for what in sorted({key for offer in chosen.values() for key in offer.alike}):
        told[what] = {node: offer.alike.get(what, "nothing") for node, offer in chosen.items()}
    for what, values in told.items():
        if len(set(values.values())) > 1:
            raise Unfit(f"{what} differs: {', '.join(f'{node} has {value}' for node, value in values.items())}")


def _can(chosen: Mapping[str, TransportOffer], required: Caps) -> None:
    for node, offer in chosen.items():
        missing = [cap for cap in names(required) if cap not in offer.caps]
        if missing:
            raise Unfit(f"{node} lacks {', '.join(missing)}")


def _ring(nodes: Collection[str]) -> list[tuple[str, str]]:
    """Each node with the next one, and the last with the first."""
    found = list(nodes)
    return [pair for pair in zip(found, found[1:] + found[:1], strict=True) if pair[0] != pair[1]]


def _edges(chosen: Mapping[str, TransportOffer]) -> Iterator[tuple[str, str]]:
    """The pairs that it connects: all of them, or neighbours only."""
    any_pair = all("ANY_PAIR" in offer.caps for offer in chosen.values())
    return iter(combinations(chosen, 2) if any_pair else _ring(chosen))


def _shared(edge: tuple[str, str], chosen: Mapping[str, TransportOffer], policy: Policy) -> list[str]:
    """The networks that both are on and that may be used, in the first node's order. Raises Unfit."""
    here, there = ([each.domain for each in chosen[node].attachments] for node in edge)
    common = [domain for domain in here if domain in there]
    if not common:
        raise Unfit(
            f"{edge[0]} and {edge[1]} share no network: {edge[0]} is on {_list(here)}, {edge[1]} on {_list(there)}"
        )
    # Of the whole group, since a node's addresses serve all of its links.
    level = min(trust.level(offer.caps) for offer in chosen.values())
    permitted = [
        domain
        for domain in common
        if level >= trust.LEVELS[policy.security] or trust.is_trusted(domain, policy.trusted)
    ]
    if not permitted:
        lacks = "encrypt" if policy.security == "encrypted" else "authenticate"
        raise Unfit(
            f"it does not {lacks}, and {', '.join(sorted(map(trust.spoken, common)))} is not in transport.trusted"
        )
    return permitted


def _cost(
    name: str, edge: tuple[str, str], chosen: Mapping[str, TransportOffer], domains: Sequence[str], measured: Measured
) -> tuple[float, bool]:
    """Seconds for a message from the first to the second, and whether they rest on a measurement."""
    figures = measured.get((name, *edge))
    if figures is not None:
        return _seconds(figures.latency_s, figures.bandwidth_bytes_s), True
    ends = [[each for each in chosen[node].attachments if each.domain in domains] for node in edge]
    return min(_worse(a, b) for a in ends[0] for b in ends[1] if a.domain == b.domain), False


def _worse(a: AttachmentOffer, b: AttachmentOffer) -> float:
    """A link is as good as its worse end."""
    return max(_seconds(each.latency_s, each.bandwidth_bytes_s) for each in (a, b))


def _seconds(latency_s: float, bandwidth_bytes_s: float) -> float:
    """Nonsense from a node - not a number, below nought - counts as a link that is of no use."""
    sane = latency_s >= 0.0 and bandwidth_bytes_s > 0.0
    return latency_s + MESSAGE_BYTES / bandwidth_bytes_s if sane else inf


def is_sane(link: LinkMeasure) -> bool:
    """Whether these can be a link's figures."""
    return 0.0 <= link.latency_s < inf and 0.0 < link.bandwidth_bytes_s < inf


def _list(domains: Sequence[str]) -> str:
    """For people, of domains that two nodes do not share: loopback is each machine's own."""
    shown = ("its loopback" if domain.startswith("loopback/") else domain for domain in domains)
    return ", ".join(sorted(shown)) or "none"
