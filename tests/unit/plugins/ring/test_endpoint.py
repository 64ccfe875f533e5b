"""An endpoint holds one port for each of its addresses, from the range, and lets go of all of them."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import msgspec
import pytest
from nova_transport_ring import RingConfig, RingTransport
from nova_transport_ring.endpoint import RingEndpoint
from nova_transport_ring.links import Card

from nova.clock import Deadline
from nova.errors import FormingFailed, TransportUnavailable
from nova.transport.api import Seat

FIRST = 48210


def opened(hosts: Sequence[str] = ("127.0.0.1",), size: int = 2, ports: str = "49500-49999") -> RingEndpoint:
    return RingTransport(RingConfig(ports)).open(Seat("test", 1, 0, size, b"t" * 32, tuple(hosts)))


def listed(endpoint: RingEndpoint) -> list[tuple[str, int]]:
    return [(each.host, each.port) for each in msgspec.json.decode(endpoint.card(), type=Card).listeners]


class Nobody:
    """A rendezvous that no rank comes to."""

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        raise AssertionError("nothing is to be exchanged")


def test_the_card_lists_each_ipv4_address_with_a_port_that_can_be_dialled_at_once() -> None:
    endpoint = opened(["127.0.0.1", "::1", "127.0.0.2"])
    found = listed(endpoint)
    assert [host for host, _ in found] == ["127.0.0.1", "127.0.0.2"]
    for address in found:
        assert 49500 <= address[1] <= 49999
        socket.create_connection(address, 5).close()
    endpoint.close()
    endpoint.close()
    for address in found:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 5)


def test_a_port_that_another_program_holds_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", FIRST)), socket.create_server(("127.0.0.1", FIRST + 2)):
        endpoint = opened(ports=f"{FIRST}-{FIRST + 2}")
        assert listed(endpoint) == [("127.0.0.1", FIRST + 1)]
        endpoint.close()


def test_a_range_without_a_free_port_is_named_and_nothing_is_left_open() -> None:
    with socket.create_server(("127.0.0.2", FIRST)):
        with pytest.raises(TransportUnavailable, match=rf"no port of {FIRST}-{FIRST} is free on 127\.0\.0\.2"):
            opened(["127.0.0.1", "127.0.0.2"], ports=f"{FIRST}-{FIRST}")
        socket.create_server(("127.0.0.1", FIRST)).close()


def test_opening_without_an_ipv4_address_is_refused() -> None:
    with pytest.raises(TransportUnavailable, match="the ring speaks IPv4 only"):
        opened(["::1"])


@pytest.mark.parametrize(
    ("cards", "size", "reason"),
    [
        ([b"{}", b"{}"], 2, "the card of rank 0 is malformed"),
        ([b"[" * 70_000, b"{}"], 2, "the card of rank 0 is malformed"),
        ([b"{}"], 2, "1 cards for 2 ranks"),
        ([b"{}"], 1, "a ring has two ranks at least"),
    ],
)
def test_cards_that_make_no_ring_are_refused(cards: list[bytes], size: int, reason: str) -> None:
    endpoint = opened(size=size)
    with pytest.raises(FormingFailed, match=reason):
        endpoint.join(cards, Nobody(), Deadline.after(5))


def test_a_closed_endpoint_cannot_join() -> None:
    endpoint = opened()
    endpoint.close()
    with pytest.raises(FormingFailed, match="closed"):
        endpoint.join([endpoint.card(), endpoint.card()], Nobody(), Deadline.after(5))
