"""VERIFY: proof, through the data plane itself, that the right processes are connected, and how fast the link is.

A transport can come up and still be wrong: a stranger took the port, ranks are swapped, a stale generation answers.
So each rank sends its right neighbour a stamp, HMAC(ticket, group | generation | source | destination), and checks
the one from its left neighbour. Then it echoes a small tensor with its right neighbour and keeps the best time.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Group, Seat
from nova.wire.messages import EngineKey

STAMP_BYTES = 32
ECHOES = 8


def stamp(ticket: bytes, key: EngineKey, source: int, destination: int) -> bytes:
    """What `source` must show to `destination` in this generation."""
    text = f"stamp|{key.group}|{key.generation}|{source}|{destination}".encode()
    return hmac.new(ticket, text, hashlib.sha256).digest()


def verify(group: Group, seat: Seat, transport: str, deadline: Deadline) -> float:
    """Exchange stamps round the ring, then measure. Returns the best echo in seconds. Raises FormingFailed."""
    if group.rank != seat.rank or group.size != seat.size:
        cause = f"group says rank {group.rank} of {group.size}, expected {seat.rank} of {seat.size}"
        raise FormingFailed("verify", transport, seat.rank, cause)
    key = EngineKey(seat.group, seat.generation, seat.rank)
    right, left = (seat.rank + 1) % seat.size, (seat.rank - 1) % seat.size
    group.send([stamp(seat.ticket, key, seat.rank, right)], right, deadline)
    shown = bytearray(STAMP_BYTES)
    group.recv_into(shown, left, deadline)
    if not hmac.compare_digest(shown, stamp(seat.ticket, key, left, seat.rank)):
        raise FormingFailed("verify", transport, seat.rank, f"rank {left} showed a wrong stamp")
    return _echo(group, right, left, deadline)


def _echo(group: Group, right: int, left: int, deadline: Deadline) -> float:
    """Rank by rank, so that nobody measures while its neighbour does: each leads in turn, the next one answers."""
    best = float("inf")
    out, back = bytes(1024), bytearray(1024)
    for leader in range(group.size):
        if leader == group.rank:
            for _ in range(ECHOES):
                start = time.perf_counter()
                group.send([out], right, deadline)
                group.recv_into(back, right, deadline)
                best = min(best, time.perf_counter() - start)
        elif leader == left:
            for _ in range(ECHOES):
                group.recv_into(back, left, deadline)
                group.send([back], left, deadline)
    return best
