"""What a network is trusted with: how a transport protects itself, and which networks hold no strangers. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

LEVELS = {"none": 0, "authenticated": 1, "encrypted": 2}
"""The values of `transport.security`, and how much each asks."""

WORDS = {"loopback": "loopback/", "thunderbolt": "tb/"}
"""The words of `transport.trusted`, and how a domain of that kind begins."""


def spoken(domain: str) -> str:
    """A domain as `transport.trusted` would name it, for people."""
    word = next((word for word, start in WORDS.items() if domain.startswith(start)), None)
    return word or domain.partition("/")[2] or domain


def level(caps: Collection[str]) -> int:
    """What a transport with these capabilities gives; encryption without a proof of who is there is worth nothing."""
    if "AUTHENTICATED" not in caps:
        return LEVELS["none"]
    return LEVELS["encrypted"] if "ENCRYPTED" in caps else LEVELS["authenticated"]


def is_trusted(domain: str, trusted: Sequence[str]) -> bool:
    """Whether the whole of this domain lies in a network that is trusted."""
    for entry in trusted:
        if entry in WORDS:
            if domain.startswith(WORDS[entry]):
                return True
        elif _is_inside(domain, entry):
            return True
    return False


def _is_inside(domain: str, network: str) -> bool:
    kind, _, text = domain.partition("/")
    if kind not in ("ip4", "ip6"):
        return False
    try:
        inner, outer = ipaddress.ip_network(text.partition("%")[0]), ipaddress.ip_network(network)
    except ValueError:
        return False
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # versions are equal
