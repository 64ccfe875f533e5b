"""How two nodes would be linked: over what would be selected, at its worse end, and by what was measured."""

from __future__ import annotations

from nova.config.schema import Transport
from nova.coordinator.reach import HANDLING_S, NOMINAL, VERIFIED, links
from nova.transport.api import Caps
from nova.transport.offers import names
from nova.transport.select import FRAMES
from nova.wire.plans import LinkProfile
from nova.wire.values import AttachmentOffer, LinkMeasure, TransportOffer

POLICY = Transport(order=["tcp", "zmq"], security="none")
CAPS = names(FRAMES | Caps.ANY_PAIR)


def offer(name: str, *at: tuple[str, float, float]) -> TransportOffer:
    attachments = [
        AttachmentOffer(domain, f"10.0.0.{index}", latency_s, rate)
        for index, (domain, latency_s, rate) in enumerate(at)
    ]
    return TransportOffer(name, "1.0", (1, 0), CAPS, attachments)


def test_a_link_is_as_good_as_its_worse_end_over_the_best_network() -> None:
    offers = {
        "a": [offer("tcp", ("lan", 3e-4, 1e8), ("cable", 1e-4, 4e9))],
        "b": [offer("tcp", ("lan", 3e-4, 1e8), ("cable", 2e-4, 5e9))],
    }
    assert links(offers, POLICY, {}) == [
        LinkProfile("a", "b", 2e-4 + HANDLING_S, 4e9, "tcp", NOMINAL),
        LinkProfile("b", "a", 2e-4 + HANDLING_S, 4e9, "tcp", NOMINAL),
    ]


def test_what_verify_measured_counts_for_its_transport_and_its_way() -> None:
    offers = {node: [offer("tcp", ("lan", 3e-4, 1e8)), offer("zmq", ("lan", 1e-4, 1e9))] for node in "ab"}
    measured = {("tcp", "a", "b"): LinkMeasure(1, 5e-4, 2e8), ("zmq", "b", "a"): LinkMeasure(0, 1e-6, 1e9)}
    assert links(offers, POLICY, measured) == [
        LinkProfile("a", "b", 5e-4 + HANDLING_S, 2e8, "tcp", VERIFIED),
        LinkProfile("b", "a", 3e-4 + HANDLING_S, 1e8, "tcp", NOMINAL),
    ]


def test_nodes_that_no_transport_connects_have_no_link_and_nonsense_makes_none() -> None:
    offers = {
        "a": [offer("tcp", ("here", 1e-4, 1e9))],
        "b": [offer("tcp", ("there", 1e-4, 1e9), ("odd", -1.0, 0.0))],
        "c": [offer("tcp", ("odd", 1e-4, 1e9))],
        "d": [],
    }
    assert links(offers, POLICY, {}) == []
