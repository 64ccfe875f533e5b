"""Proof that a peer holds the group's ticket, without showing it.

Both ends of a connection prove themselves to each other, and to this connection only: each proof covers a fresh
nonce of either side, so that a recorded handshake is worth nothing, and the role, so that a proof cannot be
returned to its sender.

    dialler                                   listener
    magic, rank, lane, nonce        ->
                                    <-        nonce, proof("listener")
    proof("dialler")                ->
                                    <-        welcome

The steps are generators without any I/O: each yields (bytes to send, number of bytes to await next) and is sent
what arrived. A transport drives them over whatever it connects with.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections.abc import Collection, Generator
from dataclasses import dataclass

from nova.transport.api import Seat

NONCE_BYTES = 32
PROOF_BYTES = 32
WELCOME = b"\x01"

_HELLO = struct.Struct(f"<4sIB{NONCE_BYTES}s")
_MAGIC = b"NVT1"


class Stranger(Exception):
    """The other end did not prove that it holds the ticket; the message says how it failed."""


@dataclass(frozen=True)
class Admitted:
    """Who is at the other end. `lane` tells several connections of one pair apart."""

    rank: int
    lane: int


Handshake = Generator[tuple[bytes, int], bytes, Admitted]


def proof(seat: Seat, *fields: bytes) -> bytes:
    """HMAC-SHA256 under the ticket, over the group, its generation and the fields; no two lists collide."""
    stamp = hmac.new(seat.ticket, digestmod="sha256")
    for item in (seat.group.encode(), struct.pack("<Q", seat.generation), *fields):
        stamp.update(struct.pack("<Q", len(item)) + item)
    return stamp.digest()


def greet(seat: Seat, rank: int, lane: int = 0) -> Handshake:
    """The dialler's side. Raises Stranger if whoever listens there is not `rank`."""
    ours = secrets.token_bytes(NONCE_BYTES)
    answer = yield _HELLO.pack(_MAGIC, seat.rank, lane, ours), NONCE_BYTES + PROOF_BYTES
    theirs, stamp = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
    pair = _pair(seat.rank, rank, lane), ours, theirs
    if not hmac.compare_digest(stamp, proof(seat, b"listener", *pair)):
        raise Stranger(f"whoever listens for rank {rank} does not hold this group's ticket")
    welcome = yield proof(seat, b"dialler", *pair), len(WELCOME)
    if welcome != WELCOME:
        raise Stranger(f"rank {rank} did not say welcome")
    return Admitted(rank, lane)


def admit(seat: Seat, awaited: Collection[int], lanes: int = 1) -> Handshake:
    """The listener's side, for whichever of the awaited ranks has dialled. Raises Stranger for all others."""
    hello = yield b"", _HELLO.size
    magic, rank, lane, theirs = _HELLO.unpack(hello)
    if magic != _MAGIC:
        raise Stranger(f"its first bytes were {hello[:4]!r}")
    if rank not in awaited or lane >= lanes:
        raise Stranger(f"it claims to be rank {rank}, lane {lane}, which is not awaited")
    ours = secrets.token_bytes(NONCE_BYTES)
    pair = _pair(rank, seat.rank, lane), theirs, ours
    stamp = yield ours + proof(seat, b"listener", *pair), PROOF_BYTES
    if not hmac.compare_digest(stamp, proof(seat, b"dialler", *pair)):
        raise Stranger(f"it claims to be rank {rank} and does not hold this group's ticket")
    yield WELCOME, 0
    return Admitted(rank, lane)


def _pair(dialler: int, listener: int, lane: int) -> bytes:
    return struct.pack("<IIB", dialler, listener, lane)
