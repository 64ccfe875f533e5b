"""What the ranks tell each other while a world comes up: cards, and the place that each of them takes. Pure."""

from __future__ import annotations

import binascii
import ipaddress
import re
from base64 import b64decode
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from nova.errors import ProtocolError
from nova.transport.api import Seat
from nova.transport.ticket import proof
from nova_transport_mpi.place import NAMES

MAX_PLACE_BYTES = 4096
"""Of one rank's record, about 900 here."""

MAX_ANSWER_BYTES = 128 << 10
"""Of all ranks' places."""

MAX_REASON = 1000
"""Characters."""

_RECORD = re.compile(rb"<(\d{1,4}) ([A-Za-z0-9+/=]{1,%d})>" % MAX_PLACE_BYTES)

Value = Annotated[str, Meta(max_length=1024, pattern=r"^[ -~]*\Z")]
Place = dict[str, Value]
"""The environment that makes a process one rank of an MPI world."""


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who sits at a rank, and where. The proof shows that it belongs to this group; it protects no connection."""

    rank: int
    host: Annotated[str, Meta(max_length=64)]
    proof: bytes


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What rank 0 tells all others: every rank's place, or why there are none."""

    places: Annotated[list[Place], Meta(max_length=1024)] = []
    failed: Annotated[str, Meta(max_length=MAX_REASON)] = ""


def card(seat: Seat) -> bytes:
    return msgspec.json.encode(Card(seat.rank, seat.hosts[0], _stamp(seat, seat.rank, seat.hosts[0])))


def hosts(seat: Seat, cards: Sequence[bytes]) -> list[str]:
    """Every rank's IPv4 address. Raises ProtocolError that names the first rank whose card is wrong."""
    if len(cards) != seat.size:
        raise ProtocolError(f"{len(cards)} cards came for a group of {seat.size}")
    return [_host(seat, rank, each) for rank, each in enumerate(cards)]


def records(text: bytes) -> dict[int, Place]:
    """The places that copies have written so far, by rank; what mpirun itself writes between them is passed over.

    Raises ProtocolError.
    """
    return {int(rank): _place(int(rank), coded) for rank, coded in _RECORD.findall(text)}


def told(places: Sequence[Place], failed: str = "") -> bytes:
    """Rank 0's answer to the others."""
    return msgspec.json.encode(Answer(list(places), failed[:MAX_REASON]))


def answered(seat: Seat, blob: bytes) -> Place:
    """This rank's place. Raises ProtocolError with rank 0's reason, or with what is wrong about its answer."""
    if len(blob) > MAX_ANSWER_BYTES:
        raise ProtocolError(f"rank 0 answered {len(blob)} bytes, the limit is {MAX_ANSWER_BYTES}")
    try:
        answer = msgspec.json.decode(blob, type=Answer)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"rank 0 answered what is no list of places: {error}") from error
    if answer.failed:
        raise ProtocolError(f"rank 0 has no MPI world for us: {answer.failed}")
    if len(answer.places) != seat.size:
        raise ProtocolError(f"rank 0 has {len(answer.places)} places for {seat.size} ranks")
    place = answer.places[seat.rank]
    if strange := place.keys() - NAMES:
        raise ProtocolError(f"rank 0 wants to set {sorted(strange)[0]!r} here, which makes no rank of MPI")
    if (place.get("PMIX_RANK"), place.get("OMPI_COMM_WORLD_SIZE")) != (str(seat.rank), str(seat.size)):
        raise ProtocolError(f"rank 0 gives rank {seat.rank} of {seat.size} the place of another")
    return place


def _host(seat: Seat, rank: int, card: bytes) -> str:
    try:
        told = msgspec.json.decode(card, type=Card)
        host = str(ipaddress.IPv4Address(told.host))
    except (msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"the card of rank {rank} is malformed: {error}") from error
    if told.rank != rank or told.proof != _stamp(seat, rank, told.host):
        raise ProtocolError(f"the card of rank {rank} does not belong to this group: its proof is wrong")
    return host


def _place(rank: int, coded: bytes) -> Place:
    try:
        return msgspec.json.decode(b64decode(coded, validate=True), type=Place)
    except (msgspec.DecodeError, binascii.Error) as error:
        raise ProtocolError(f"what the copy of rank {rank} wrote is malformed: {error}") from error


def _stamp(seat: Seat, rank: int, host: str) -> bytes:
    return proof(seat, b"mpi", str(rank).encode(), host.encode())
