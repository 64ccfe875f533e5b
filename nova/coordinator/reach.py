"""How any two nodes would be linked, as far as it is known before a group is formed. Pure.

For each pair the transport is selected as if the two were alone. A group of more nodes takes one transport for all, so
its links may turn out to be slower; VERIFY's figures, once there are some, count in place of the nominal ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import inf

from nova.config.schema import Transport as Policy
from nova.transport.select import MESSAGE_BYTES, Candidate, Measured, select
from nova.wire.plans import LinkProfile
from nova.wire.values import AttachmentOffer, TransportOffer

NOMINAL = "as the transport's plugin estimates it"
VERIFIED = "measured when the link was verified"
HANDLING_S = 5e-4
"""What two engines take to hand a chunk on, beside the way itself. Over loopback a hop of a decode step takes 0.4 ms,
and a step over two stages 0.5 ms that neither they nor the hops explain (`tools/bench sequential`)."""


def links(offers: Mapping[str, Sequence[TransportOffer]], policy: Policy, measured: Measured) -> list[LinkProfile]:
    """Both ways of every pair that some transport connects; nothing for the others."""
    found = []
    for here, there in combinations(offers, 2):
        ranked = select({here: offers[here], there: offers[there]}, policy, measured).ranked
        for ends in ((here, there), (there, here)) if ranked else ():
            known, source = measured.get((ranked[0].name, *ends)), VERIFIED
            figures = (known.latency_s, known.bandwidth_bytes_s) if known is not None else None
            if figures is None:
                figures, source = _nominal(ranked[0], ends, offers), NOMINAL
            if figures is not None:
                latency_s, bandwidth = figures
                found.append(LinkProfile(*ends, latency_s + HANDLING_S, bandwidth, ranked[0].name, source))
    return found


def _nominal(
    candidate: Candidate, ends: tuple[str, str], offers: Mapping[str, Sequence[TransportOffer]]
) -> tuple[float, float] | None:
    """(seconds, bytes per second) over the best network that the two share; None where their figures are nonsense."""
    sides = [
        [
            attachment
            for offer in offers[node]
            for attachment in offer.attachments
            if offer.name == candidate.name and attachment.address in candidate.hosts[node]
        ]
        for node in ends
    ]
    figures = [_worse(a, b) for a in sides[0] for b in sides[1] if a.domain == b.domain]
    sane = [(latency_s, bandwidth) for latency_s, bandwidth in figures if 0.0 <= latency_s < inf and bandwidth > 0.0]
    return min(sane, key=lambda one: one[0] + MESSAGE_BYTES / one[1], default=None)


def _worse(a: AttachmentOffer, b: AttachmentOffer) -> tuple[float, float]:
    """A link is as good as its worse end."""
    return max(a.latency_s, b.latency_s), min(a.bandwidth_bytes_s, b.bandwidth_bytes_s)
