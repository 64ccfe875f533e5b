"""`nova transports check`: the conformance kit's cases, between processes of this machine or nodes of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import msgspec

from nova.cli.show_check import Progress
from nova.config.schema import Transport as Policy
from nova.control.client import Client
from nova.errors import ConfigError, NoTransport, ProtocolError, TransportUnavailable
from nova.ids import new_request_id
from nova.node.addresses import resolve
from nova.node.probechild import probe
from nova.testing.case import Case
from nova.testing.cases import CASES
from nova.testing.harness import Harness
from nova.testing.report import CaseResult, Report
from nova.testing.run import verdict
from nova.transport.api import Caps
from nova.transport.offers import names
from nova.transport.probe import Request
from nova.wire.requests import CheckQuery, CheckReply, StatusReply
from nova.wire.values import TransportOffer

START_S = 120.0
"""s; what starting and ending a case's engines may take at most, beside the case itself."""


@dataclass(frozen=True)
class Wanted:
    """Which cases: those whose names begin with one of `prefixes`, all where there are none; the slow ones too."""

    prefixes: Sequence[str] = ()
    slow: bool = False

    def cases(self) -> list[Case]:
        """Raises ConfigError when it is none."""
        found = [
            case
            for case in CASES.values()
            if (self.slow or not case.slow) and case.name.startswith(tuple(self.prefixes) or "")
        ]
        if not found:
            clauses = ", ".join(dict.fromkeys(case.clause for case in CASES.values()))
            raise ConfigError(f"--case: no case begins with {' or '.join(self.prefixes)}; clauses are {clauses}")
        return found


def here(name: str, policy: Policy, wanted: Wanted, progress: Progress) -> Report:
    """Every case, each rank a process of this machine. Raises TransportUnavailable and ConfigError."""
    cases = wanted.cases()
    offer, hosts = asyncio.run(_offer(name, policy))
    caps = _caps([offer])
    harness = Harness(
        name, policy.options.get(name, {}), ranks_as="processes", expect=caps, hosts=tuple(hosts), limit_s=float("inf")
    )
    results = [progress.told(harness.run(progress.begins(case))) for case in cases]
    return Report(name, offer.version, names(caps), results)


async def on(client: Client, name: str, nodes: Sequence[str], wanted: Wanted, progress: Progress) -> Report:
    """Every case, each rank an engine of one of the nodes. Raises ConfigError, NoTransport and ControlError."""
    offers = _offers(await client.status(), name, nodes)
    caps = _caps(offers)
    results = []
    for case in wanted.cases():
        progress.begins(case)
        why = case.missing(caps) or (f"takes {case.ranks} nodes" if case.ranks > len(nodes) else "")
        skipped = CaseResult(name, offers[0].version, case.name, case.clause, "skipped", why)
        results.append(progress.told(skipped if why else await _run(client, case, name, nodes, caps)))
    return Report(name, offers[0].version, names(caps), results)


def places(text: str) -> list[str]:
    """ "a,b" as nodes, one for each rank. Raises ConfigError."""
    nodes = [node.strip() for node in text.split(",")]
    if not all(nodes):
        raise ConfigError(f"--on: expected names of nodes with commas, as in a,b, got {text!r}")
    if twice := sorted({node for node in nodes if nodes.count(node) > 1}):
        raise ConfigError(f"--on: {', '.join(twice)} is named more than once; a case runs one rank on each node")
    return nodes


def judged(case: Case, transport: str, caps: Caps, reply: CheckReply) -> CaseResult:
    """The verdict over the ranks, with the node of each that has no result. Raises ProtocolError."""
    try:
        results = {
            rank: msgspec.json.decode(each.result, type=CaseResult) if each.result else None
            for rank, each in enumerate(reply.ranks)
        }
    except msgspec.DecodeError as error:
        raise ProtocolError(f"the result of {case.name} is malformed: {error}") from error
    found = verdict(case, transport, caps, results)
    if found.outcome == "passed":
        return found
    silent = [f"rank {rank} is {each.node}: {each.ended}" for rank, each in enumerate(reply.ranks) if not each.result]
    return msgspec.structs.replace(found, reason="; ".join([found.reason, *silent]))


async def _run(client: Client, case: Case, name: str, nodes: Sequence[str], caps: Caps) -> CaseResult:
    """A case of one rank runs on every node; any other on the first of them, rank by rank."""
    places = [[node] for node in nodes] if case.ranks == 1 else [list(nodes[: case.ranks])]
    results = []
    for place in places:
        query = CheckQuery(new_request_id(), name, case.name, place, case.limit_s)
        results.append(judged(case, name, caps, await client.check(query, case.limit_s + START_S)))
    failed = [(place[0], each) for place, each in zip(places, results, strict=True) if each.outcome == "failed"]
    whole = failed[0][1] if failed else results[0]
    reason = "; ".join(f"on {node}: {each.reason}" if len(places) > 1 else each.reason for node, each in failed)
    return msgspec.structs.replace(whole, reason=reason, seconds=round(sum(each.seconds for each in results), 3))


async def _offer(name: str, policy: Policy) -> tuple[TransportOffer, list[str]]:
    """What the transport's probe says here, and for which addresses. Raises TransportUnavailable and ConfigError."""
    hosts = (await resolve(policy.hosts)).addresses
    answer = await probe(Request(name, policy.options.get(name, {}), hosts, policy.probe_s))
    if answer.wrong_option:
        raise ConfigError(answer.wrong_option)
    if answer.offer is None or answer.offer.unavailable is not None:
        why = answer.raised if answer.offer is None else answer.offer.unavailable
        raise TransportUnavailable(f"{name} cannot be checked here: {why}")
    return answer.offer, hosts


def _offers(status: StatusReply, name: str, nodes: Sequence[str]) -> list[TransportOffer]:
    """Each node's offer, in their order. Raises ConfigError and NoTransport."""
    up = {node.name: node.transports for node in status.nodes if node.state == "up"}
    if absent := [node for node in nodes if node not in up]:
        raise ConfigError(f"--on: {', '.join(absent)} is not there; nodes are {', '.join(sorted(up)) or 'none'}")
    found = []
    for node in nodes:
        offer = next((each for each in up[node] if each.name == name), None)
        if offer is None:
            raise NoTransport({name: f"{node} does not offer it: its transport.order or allow must name it"})
        if offer.unavailable is not None:
            raise NoTransport({name: f"unavailable on {node}: {offer.unavailable}"})
        found.append(offer)
    if len({tuple(offer.caps) for offer in found}) > 1:
        told = "; ".join(f"{node}: {', '.join(offer.caps)}" for node, offer in zip(nodes, found, strict=True))
        raise NoTransport({name: f"its capabilities differ between the nodes: {told}"})
    return found


def _caps(offers: Sequence[TransportOffer]) -> Caps:
    return reduce(or_, (Caps[name] for name in offers[0].caps), Caps(0))
