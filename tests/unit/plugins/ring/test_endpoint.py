"""An endpoint holds one port for each of its addresses, from the range, and lets go of all of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import msgspec
import pytest
from nova_transport_ring import RingConfig, RingTransport
from nova_transport_ring.links import Card

from nova.clock import Deadline
from nova.errors import FormingFailed, TransportUnavailable
from nova.transport.api import Endpoint, Seat


def opened(hosts: Sequence[str] = ("127.0.0.1",), size: int = 2, ports: str = "29500-29999") -> Endpoint:
    return RingTransport(RingConfig(ports)).open(Seat("test", 1, 0, size, b"t" * 32, tuple(hosts)))


@contextmanager
def held(*hosts: str) -> Iterator[int]:
    """A port that another program holds on these addresses; the one after it is free."""
    for port in range(21000, 29000, 2):  # outgoing connections take theirs above these
        with ExitStack() as undo, suppress(OSError):
            socket.create_server(("127.0.0.1", port + 1)).close()
            for host in hosts:
                undo.enter_context(socket.create_server((host, port)))
            yield port
            return
    raise AssertionError("no port is free")


def listed(endpoint: Endpoint) -> list[tuple[str, int]]:
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
        assert 29500 <= address[1] <= 29999
        socket.create_connection(address, 5).close()
    endpoint.close()
    endpoint.close()
    for address in found:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 5)


def test_a_port_that_another_program_holds_is_passed_over() -> None:
    with held("127.0.0.1") as port:
        endpoint = opened(ports=f"{port}-{port + 1}")
        assert listed(endpoint) == [("127.0.0.1", port + 1)]
        endpoint.close()


def test_a_range_without_a_free_port_is_named_and_nothing_is_left_open() -> None:
    with held("127.0.0.2") as port:
        with pytest.raises(TransportUnavailable, match=rf"no port of {port}-{port} is free on 127\.0\.0\.2"):
            opened(["127.0.0.1", "127.0.0.2"], ports=f"{port}-{port}")
        socket.create_server(("127.0.0.1", port)).close()


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
