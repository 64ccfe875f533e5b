"""A probe's answer as it travels to the coordinator."""

from __future__ import annotations

from nova.transport.api import Caps, TransportInfo
from nova.wire.values import AttachmentOffer, TransportOffer


def describe(info: TransportInfo) -> TransportOffer:
    """The answer of a probe, in the wire's own types."""
    attachments = [
        AttachmentOffer(each.domain, each.address, each.latency_s, each.bandwidth_bytes_s, each.interface)
        for each in info.attachments
    ]
    return TransportOffer(
        info.name, info.version, info.api, names(info.caps), attachments, list(info.collectives), dict(info.alike)
    )


def names(caps: Caps) -> list[str]:
    """The names of the flags that are set."""
    return [str(flag.name) for flag in caps]
