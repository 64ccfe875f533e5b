"""Which device reaches whom: JACCL's device matrix, from the usable ports of all ranks. Pure.

A cable is known by the domain UUIDs of its two ends. The j-th device from a to b belongs with the j-th from b to a, as
JACCL pairs them; every rank works out the whole matrix from the same cards, so all have the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nova.errors import TransportUnavailable
from nova_transport_jaccl.verdict import Verdict

MAX_MESH_RANKS = 8
MAX_CABLES = 4
"""Limits of MLX: peers of a mesh with oneself, and cables between two ranks of a ring."""

Devices = list[list[str] | None]


@dataclass(frozen=True)
class Plan:
    """`matrix[source][destination]` is None or the devices of `source` that reach `destination`."""

    topology: Literal["mesh", "ring"]
    matrix: list[Devices]

    def reaches(self, source: int, destination: int) -> bool:
        return self.matrix[source][destination] is not None


def plan(ranks: Sequence[Verdict]) -> Plan:
    """A mesh where every two ranks are cabled, else a ring in the order of the ranks.

    Raises TransportUnavailable, naming the ranks between which there is no usable cable.
    """
    size = len(ranks)
    every = [(a, b) for a in range(size) for b in range(a + 1, size)]
    neighbours = sorted({(min(a, b), max(a, b)) for a, b in ((a, (a + 1) % size) for a in range(size))})
    no_mesh = _lacking(ranks, every)
    if size <= MAX_MESH_RANKS and not no_mesh:
        return Plan("mesh", _matrix(ranks, every))
    lacking = _lacking(ranks, neighbours)
    if not lacking:
        return Plan("ring", _matrix(ranks, neighbours))
    raise TransportUnavailable(
        f"the cables make neither a mesh nor a ring in the order of the ranks: {'; '.join(lacking)}"
    )


def cables(a: Verdict, b: Verdict) -> list[tuple[str, str]]:
    """The devices at both ends of every cable between two machines."""
    return [
        (here.device, there.device)
        for here in a.ports
        for there in b.ports
        if (here.uuid, here.peer) == (there.peer, there.uuid)
    ]


def _lacking(ranks: Sequence[Verdict], pairs: Sequence[tuple[int, int]]) -> list[str]:
    """A sentence for every pair without a cable."""
    lacking = []
    for a, b in pairs:
        if cables(ranks[a], ranks[b]):
            continue
        whys = [f"rank {rank}: {why}" for rank in (a, b) if (why := ranks[rank].reason)]
        why = f" ({', '.join(whys)})" if whys else ""
        lacking.append(f"ranks {a} and {b} share no usable Thunderbolt 5 cable{why}")
    return lacking


def _matrix(ranks: Sequence[Verdict], pairs: Sequence[tuple[int, int]]) -> list[Devices]:
    """All pairs get as many cables as the pair with the fewest: MLX wants equal numbers."""
    width = min(MAX_CABLES, *(len(cables(ranks[a], ranks[b])) for a, b in pairs))
    matrix: list[Devices] = [[None] * len(ranks) for _ in ranks]
    for a, b in pairs:
        used = cables(ranks[a], ranks[b])[:width]
        matrix[a][b] = [here for here, _ in used]
        matrix[b][a] = [there for _, there in used]
    return matrix
