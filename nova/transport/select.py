"""Which transport connects these nodes: a pure function of their offers and the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nova.transport.api import Caps
from nova.transport.offers import names
from nova.wire.values import TransportOffer


@dataclass(frozen=True)
class Selection:
    """`ranked` is best first; every other transport that anybody named is in `rejected`, with the reason."""

    ranked: list[str]
    rejected: dict[str, str]


def select(offers_by_node: Mapping[str, Sequence[TransportOffer]], order: Sequence[str], required: Caps) -> Selection:
    """Judge every transport in `order` and every one that is offered.

    The nodes stand in pipeline order: each must reach the next, and the last the first. `order` is the policy
    and decides the ranking. The order of a node's offers decides nothing.
    """
    offered = {offer.name for offers in offers_by_node.values() for offer in offers}
    candidates = list(dict.fromkeys([*order, *sorted(offered)]))
    verdicts = {name: _reject(name, offers_by_node, order, required) for name in candidates}
    ranked = [name for name, reason in verdicts.items() if reason is None]
    return Selection(ranked, {name: reason for name, reason in verdicts.items() if reason is not None})


def _reject(
    name: str, offers_by_node: Mapping[str, Sequence[TransportOffer]], order: Sequence[str], required: Caps
) -> str | None:
    """The first reason against a transport, or None."""
    if name not in order:
        return "not in transport.order"
    chosen: dict[str, TransportOffer] = {}
    for node, offers in offers_by_node.items():
        of_name = [offer for offer in offers if offer.name == name]
        if not of_name:
            return f"{node} does not offer it"
        if len(of_name) > 1:
            return f"{node} offers it more than once"
        if of_name[0].unavailable is not None:
            return f"unavailable on {node}: {of_name[0].unavailable}"
        chosen[node] = of_name[0]
    return _differ(chosen) or _lack(chosen, required) or _apart(chosen)


def _differ(chosen: Mapping[str, TransportOffer]) -> str | None:
    for what, majors in (
        ("API", {node: str(offer.api[0]) for node, offer in chosen.items()}),
        ("version", {node: offer.version.split(".")[0] for node, offer in chosen.items()}),
    ):
        if len(set(majors.values())) > 1:
            return f"{what} major differs: {', '.join(f'{node} has {major}' for node, major in majors.items())}"
    return None


def _lack(chosen: Mapping[str, TransportOffer], required: Caps) -> str | None:
    for node, offer in chosen.items():
        missing = [cap for cap in names(required) if cap not in offer.caps]
        if missing:
            return f"{node} lacks {', '.join(missing)}"
    return None


def _apart(chosen: Mapping[str, TransportOffer]) -> str | None:
    nodes = list(chosen)
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        if node == following:
            continue
        here, there = ({each.domain for each in chosen[at].attachments} for at in (node, following))
        if not here & there:
            return (
                f"{node} and {following} share no network: {node} is on {', '.join(sorted(here)) or 'none'}, "
                f"{following} on {', '.join(sorted(there)) or 'none'}"
            )
    return None
