"""VERIFY: proof, through the data plane itself, that the right processes are connected, and how fast the link is.

A transport can come up and still be wrong: a stranger took the port, ranks are swapped, a stale generation answers,
a driver garbles what crosses it. So neighbours show each other a stamp, HMAC(ticket, group | generation | source |
destination), in both directions; arrays of several sizes and dtypes must come back as they went, and every declared
collective must give the known answer (`nova.engine.verify_arrays`). Then an echo measures the link to the right; both
ends know what it must be.

Everything goes rank by rank, one transfer at a time: each leads in turn and its right neighbour answers. So no
transport needs to be full duplex for it, and nobody measures while its neighbour does.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from nova.clock import Deadline
from nova.engine.lanes import Lanes
from nova.errors import FormingFailed
from nova.transport.api import ByteGroup, Caps, CollectiveGroup, Group, Seat
from nova.transport.offers import names
from nova.transport.select import FRAMES
from nova.wire import phases
from nova.wire.values import EngineKey, LinkMeasure

STAMP_BYTES = 32
ECHOES = 8
SMALL = 1 << 10
LARGE = 1 << 20
"""Bytes of the echoes that measure latency and bandwidth."""


class Carrier(Protocol):
    """A way to move exact bytes between two ranks: over parts, or over arrays."""

    def put(self, data: bytes, dst: int) -> None: ...
    def take(self, count: int, src: int) -> bytes: ...


@dataclass
class ByteCarrier:
    """Parts of a ByteGroup."""

    group: ByteGroup
    deadline: Deadline

    def put(self, data: bytes, dst: int) -> None:
        self.group.send([data], dst, self.deadline)

    def take(self, count: int, src: int) -> bytes:
        out = bytearray(count)
        self.group.recv_into(out, src, self.deadline)
        return bytes(out)


def stamp(ticket: bytes, key: EngineKey, source: int, destination: int) -> bytes:
    """What `source` must show to `destination` in this generation."""
    text = f"stamp|{key.group}|{key.generation}|{source}|{destination}".encode()
    return hmac.new(ticket, text, hashlib.sha256).digest()


def verify(lanes: Lanes, seat: Seat, transport: str, deadline: Deadline) -> LinkMeasure:
    """Check every group of `lanes`; returns the link to the right neighbour. Raises FormingFailed."""

    def fail(cause: str) -> FormingFailed:
        return FormingFailed(phases.VERIFY, transport, seat.rank, cause)

    for group in lanes.groups or [lanes.frames]:
        _place(group, seat, fail)
    if lacking := names(FRAMES & ~lanes.frames.caps):
        raise fail(f"{type(lanes.frames).__name__} lacks {', '.join(lacking)}, which its transport offered")
    carrier: Carrier = ByteCarrier(lanes.frames, deadline)
    _stamps(carrier, seat, fail)
    if lanes.arrays is not None:
        from nova.engine import verify_arrays  # needs MLX, which a group of bytes does not

        carrier = verify_arrays.ArrayCarrier(lanes.arrays, deadline)
        _stamps(carrier, seat, fail)
        verify_arrays.arrays(lanes.arrays, seat, deadline, fail)
        if isinstance(lanes.arrays, CollectiveGroup):
            verify_arrays.collectives(lanes.arrays, seat, fail)
    return _measure(carrier, seat, fail)


def _place(group: Group, seat: Seat, fail: Callable[[str], FormingFailed]) -> None:
    """The group is where it was told to be, and is what it says that it is."""
    if (group.rank, group.size) != (seat.rank, seat.size):
        raise fail(f"group says rank {group.rank} of {group.size}, expected {seat.rank} of {seat.size}")
    if (Caps.BYTES in group.caps) != isinstance(group, ByteGroup):
        raise fail(f"{type(group).__name__} and its declared BYTES do not agree")
    if (Caps.COLLECTIVES in group.caps) != isinstance(group, CollectiveGroup):
        raise fail(f"{type(group).__name__} and its declared COLLECTIVES do not agree")


def turns(seat: Seat) -> Iterator[tuple[bool, int]]:
    """This rank's turns, in order: (leads, the other rank)."""
    right, left = (seat.rank + 1) % seat.size, (seat.rank - 1) % seat.size
    for leader in range(seat.size):
        if leader == seat.rank:
            yield True, right
        elif leader == left:
            yield False, left


def _stamps(carrier: Carrier, seat: Seat, fail: Callable[[str], FormingFailed]) -> None:
    """Both directions of every pair of neighbours."""
    key = EngineKey(seat.group, seat.generation, seat.rank)
    for leads, other in turns(seat):
        ours, theirs = stamp(seat.ticket, key, seat.rank, other), stamp(seat.ticket, key, other, seat.rank)
        if leads:
            carrier.put(ours, other)
        shown = carrier.take(STAMP_BYTES, other)
        if not hmac.compare_digest(shown, theirs):
            raise fail(f"rank {other} showed a wrong stamp: a stranger, another generation, or swapped ranks")
        if not leads:
            carrier.put(ours, other)


def _measure(carrier: Carrier, seat: Seat, fail: Callable[[str], FormingFailed]) -> LinkMeasure:
    """The best of several echoes each, small and large, as this rank leads them."""
    best: dict[int, float] = {}
    for leads, other in turns(seat):
        for size, times in ((SMALL, ECHOES), (LARGE, 2)):
            data = _noise(seat.ticket, seat.rank if leads else other, size)
            for _ in range(times):
                begun = time.perf_counter()
                if leads:
                    carrier.put(data, other)
                    came = carrier.take(size, other)
                    best[size] = min(best.get(size, float("inf")), time.perf_counter() - begun)
                else:
                    came = carrier.take(size, other)
                    carrier.put(came, other)
                if came != data:
                    raise fail(f"{size} bytes came from rank {other} as others")
    latency_s, large_s = best[SMALL] / 2, best[LARGE] / 2
    # On a fast link both are mostly overhead, and their difference is mostly chance.
    return LinkMeasure((seat.rank + 1) % seat.size, latency_s, LARGE / max(large_s - latency_s, large_s / 10, 1e-9))


def _noise(ticket: bytes, leader: int, size: int) -> bytes:
    """What a leader's echoes of this size consist of; no two places in them are alike."""
    return hashlib.shake_128(ticket + leader.to_bytes(4, "big")).digest(size)
