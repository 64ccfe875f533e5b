"""Which addresses become connections, and what each rank tells MLX of them. Pure.

MLX's ring: rank r connects to rank r+1, the last one to rank 0. A link has one connection for each address of rank
r+1 that both ranks list, in that order, and all links of the ring must have equally many.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from nova.transport.routes import MAX_ADDRESSES, Address, routes

NOBODY = "198.51.100.1:0"
"""Stands for ranks that are no neighbours: MLX parses every entry but never dials these (TEST-NET-2, RFC 5737)."""


class Listener(Address, frozen=True, forbid_unknown_fields=True):
    """One listening address of a rank. `speed` is its interface's, in Mb/s; 0 where the system does not say."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    speed: Annotated[int, Meta(ge=0)] = 0

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a rank can be dialled, best first."""

    listeners: Annotated[list[Listener], Meta(min_length=1, max_length=MAX_ADDRESSES)]

    def __post_init__(self) -> None:
        for listener in self.listeners:
            ipaddress.IPv4Address(listener.host)  # a ValueError here is a malformed card


Reached = Mapping[int, Sequence[str]]
"""The addresses of each neighbour that proved themselves to one rank."""


def neighbours(rank: int, size: int) -> list[int]:
    """The ranks that share a link with `rank`, in order of rank."""
    return sorted({(rank - 1) % size, (rank + 1) % size})


def targets(dialler: Card, listener: Card) -> list[Listener]:
    """The listeners that `dialler` may reach through a network that both are on, best first."""
    by_host = {each.host: each for each in listener.listeners}
    found = dict.fromkeys(route.target for route in routes(dialler.listeners, listener.listeners))
    return [by_host[host] for host in found]


def agree(cards: Sequence[Card], reached: Sequence[Reached], limit: int) -> list[list[Listener]]:
    """For each rank the listeners that its left neighbour connects to: for all ranks equally many.

    At most `limit`; where that is 0, those that are as fast as the best one. Every rank computes the same from the
    same cards and reports (`reached`, by rank). Raises ValueError when a link has no address that its dialler reached.
    """
    usable: list[list[Listener]] = []
    for rank, card in enumerate(cards):
        left = (rank - 1) % len(cards)
        proved = set(reached[left].get(rank, ()))
        found = [each for each in targets(cards[left], card) if each.host in proved]
        if not found:
            raise ValueError(f"rank {left} reached none of the addresses of rank {rank}")
        usable.append(found[:limit] if limit else _as_fast(found))
    count = min(len(each) for each in usable)
    return [each[:count] for each in usable]


def _as_fast(listeners: Sequence[Listener]) -> list[Listener]:
    """The first, and those of the same speed: a slower one would have an equal part of every message."""
    best = listeners[0]
    return [each for each in listeners if each is best or (best.speed and each.speed == best.speed)]


def host_file(rank: int, links: Sequence[Sequence[Listener]]) -> list[list[str]]:
    """MLX's host file as `rank` needs it: its own entry and its neighbours' are real."""
    real = {rank, *neighbours(rank, len(links))}
    return [[str(each) for each in link] if at in real else [NOBODY] for at, link in enumerate(links)]
