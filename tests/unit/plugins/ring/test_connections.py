"""MLX's connections are found by their addresses, and ended without taking MLX's descriptors away."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from nova_transport_ring.connections import Connections
from nova_transport_ring.links import Listener
from structlog.testing import capture_logs

LIMIT_S = 10.0
Pair = tuple[socket.socket, socket.socket, Listener]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A dialled connection, its accepted end, and where it was accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        with socket.create_connection((host, port), LIMIT_S) as dialled:
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(LIMIT_S)
                yield dialled, accepted, Listener(host, "loopback/x", port)


def test_both_ends_of_a_link_are_found_and_see_the_end_after_what_was_sent(pair: Pair) -> None:
    dialled, accepted, listener = pair
    with capture_logs() as logs:
        found = Connections([listener], [listener])
    assert logs == []
    dialled.sendall(b"last")
    found.shut()
    assert accepted.recv(4) == b"last"
    assert accepted.recv(1) == b""
    found.shut()
    found.release()
    assert dialled.fileno() >= 0
    assert dialled.getsockname()  # MLX's own descriptor is still the socket's


def test_other_connections_are_left_alone_and_a_missing_one_is_reported(pair: Pair) -> None:
    dialled, accepted, listener = pair
    elsewhere = Listener(listener.host, listener.domain, listener.port % 65535 + 1)
    with capture_logs() as logs:
        found = Connections([elsewhere], [elsewhere])
    assert [(each["log_level"], each["found"]) for each in logs] == [("warning", 0)]
    found.shut()
    found.release()
    dialled.sendall(b"still")
    assert accepted.recv(5) == b"still"


def test_a_duplicate_does_not_change_how_the_original_blocks(pair: Pair) -> None:
    dialled, _, listener = pair
    dialled.setblocking(False)  # as MLX sets its sockets
    with closing(dialled.dup()) as before:
        found = Connections([], [listener])
        assert not before.getblocking()
        with pytest.raises(BlockingIOError):
            dialled.recv(1)
        found.release()
