"""Sets of nodes as bits, by their size: how the exact search numbers its states. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nova.plan.search_instance import Ints


@dataclass(frozen=True)
class Sets:
    """All sets of `size` nodes, as bits. `inside[a, r]` is the a-th member of set r, `outside[b, r]` the b-th other
    node."""

    masks: Ints
    inside: Ints
    outside: Ints


@lru_cache(maxsize=4)
def sets_of(nodes: int) -> tuple[list[Sets], Ints, Ints]:
    """The sets of every size from 0 on; `rank[mask]`, the r of a set; and `place[mask, node]`, the a or b of a node."""
    masks = np.arange(1 << nodes)
    member = (masks[:, None] >> np.arange(nodes)) & 1
    sizes = member.sum(axis=1)
    rank = np.zeros(1 << nodes, np.int64)
    place = np.where(member == 1, np.cumsum(member, axis=1), np.cumsum(1 - member, axis=1)) - 1
    layers = []
    for size in range(nodes + 1):
        chosen = masks[sizes == size]
        rank[chosen] = np.arange(len(chosen))
        inside = np.nonzero(member[chosen])[1].reshape(len(chosen), size).T
        outside = np.nonzero(1 - member[chosen])[1].reshape(len(chosen), nodes - size).T
        layers.append(Sets(chosen, inside, outside))
    return layers, rank, place
