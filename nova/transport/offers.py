"""What this node offers: the probe of every allowed transport, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nova.errors import PluginRefused, TransportUnavailable
from nova.transport.api import Caps, Options, TransportInfo
from nova.transport.registry import load_transport
from nova.wire.values import AttachmentOffer, TransportOffer


def offers(order: Sequence[str], options: Mapping[str, Options], hosts: Sequence[str]) -> list[TransportOffer]:
    """One offer per name in `order`, in that order; `host` is this node's address for peers.

    A plugin that is refused or unavailable is an offer too, with its reason. Raises ConfigError for a wrong
    option, because that is for the user to mend and not for the peers to work round.
    """
    return [_offer(name, order, options.get(name, {}), hosts) for name in order]


def _offer(name: str, allowed: Sequence[str], options: Options, hosts: Sequence[str]) -> TransportOffer:
    try:
        info = load_transport(name, options, allowed).probe(hosts)
    except PluginRefused as error:
        return TransportOffer(name, unavailable=error.why)
    except TransportUnavailable as error:
        return TransportOffer(name, unavailable=str(error))
    return describe(info)


def describe(info: TransportInfo) -> TransportOffer:
    """A probe's answer as it travels."""
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
