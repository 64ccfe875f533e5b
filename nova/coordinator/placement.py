"""Which nodes have which layers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nova.coordinator.generation import GROUP, EngineRecord
from nova.plan.split import ranges
from nova.wire.values import EngineKey


@dataclass(frozen=True)
class Placement:
    """`split` counts the layers of each of `nodes`, in pipeline order; `why` it is to be so, for people."""

    nodes: list[str]
    split: list[int]
    why: str


def placed_engines(nodes: Sequence[str], split: Sequence[int], generation: int) -> dict[int, EngineRecord]:
    """The engines of a generation, by rank."""
    spans = enumerate(zip(nodes, ranges(split), strict=True))
    return {
        rank: EngineRecord(node, EngineKey(GROUP, generation, rank), first, last - first)
        for rank, (node, (first, last)) in spans
    }
