"""Strangers at a group's ports: some talk rubbish, some say nothing and stay, some come and go."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence

import msgspec
import psutil

from nova.testing.checks import Background
from nova.testing.rank import Rank

STRANGERS = 600
HELD = 200
"""Connections that stay open at once."""

RUBBISH = [
    b"",
    b"\x00" * 64,
    b"GET / HTTP/1.1\r\n\r\n",
    b"NVT1" + bytes(60),  # the beginning of nova.transport.ticket's hello
    b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03",  # ZeroMQ's greeting
]

Address = tuple[str, int]


def listening(rank: Rank) -> list[Address]:
    """The TCP ports on which the ranks' processes listen, of all ranks; all of them must ask."""
    own = [
        (rank.seat.hosts[0] if each.laddr.ip in ("0.0.0.0", "::") else each.laddr.ip, each.laddr.port)
        for each in psutil.Process().net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]
    every = [msgspec.json.decode(blob, type=list[Address]) for blob in rank.all_gather(msgspec.json.encode(own))]
    return sorted({address for addresses in every for address in addresses})


@contextlib.contextmanager
def strangers(where: Sequence[Address], count: int = STRANGERS) -> Iterator[None]:
    """Connections to the ports, some before the body and the rest from another thread during it."""
    if not where:  # this transport is reached by other ways than TCP
        yield
        return
    held: list[socket.socket] = []
    done = threading.Event()

    def knock(index: int) -> None:
        with contextlib.suppress(OSError):  # refused, reset: as it should be
            sock = socket.create_connection(where[index % len(where)], timeout=1)
            held.append(sock)
            sock.send(RUBBISH[index % len(RUBBISH)] + os.urandom(index % 7))
        if len(held) > HELD:
            held.pop(0).close()

    def knock_on() -> None:
        for index in range(count // 5, count):
            if done.is_set():
                return
            knock(index)

    for index in range(count // 5):
        knock(index)
    crowd = Background(knock_on)
    try:
        yield
    finally:
        done.set()
        crowd.result()
        for sock in held:
            sock.close()
