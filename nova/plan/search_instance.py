"""What a search is given and what it finds: numbers only, for one size of chunk. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Objective = Callable[[float, float], float]
"""Of a placement's (total_s, slowest_s); it rises, at least weakly, in both."""

SLACK = 1e-10
"""Share by which a stage may exceed a limit: its seconds are differences of sums, whose last bits are noise."""


@dataclass(frozen=True)
class Placement:
    """`order[i]` is the node of stage i and `split[i]` its number of layers. `total_s` sums stages, hops and the way
    back; `slowest_s` is the longest stage or hop. The objective is at most the share `gap` above the least there is."""

    order: tuple[int, ...]
    split: tuple[int, ...]
    total_s: float
    slowest_s: float
    gap: float = 0.0


@dataclass(frozen=True)
class Reach:
    """Which ranges of layers every node may hold as a stage, where no stage takes longer than some limit.

    `upto[node, k]` is the last layer border that a stage from border k may end at, k where it may hold nothing; it
    never falls with k. A first stage may end at `first_upto[node]`; a last one that is not the first must start at
    `last_from[node]` or later, L where it cannot be one; `alone[node]` may hold everything.
    """

    upto: Ints
    first_upto: Ints
    last_from: Ints
    alone: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Instance:
    """Seconds and bytes of placing L layers on N nodes, for one size of chunk.

    A stage takes `fixed_s` and its layers' seconds, the one with the last layer `head_s` more. It holds its layers'
    bytes, the first stage `first_bytes` more, the last one `last_bytes` and, where it is not the first, `tied_bytes`.
    `hop_s[i, j]` is from stage to stage, `back_s[i, j]` from the last to the first where there are two or more; both
    are inf where there is no link. `pinned` nodes must have a stage.
    """

    layer_s: Floats  # [nodes, layers]
    fixed_s: Floats  # [nodes]
    head_s: Floats  # [nodes]
    layer_bytes: Ints  # [layers]: weights and caches
    first_bytes: int
    last_bytes: int
    tied_bytes: int
    capacity: Ints  # [nodes]: what a stage may take, without head-room and working space
    hop_s: Floats  # [nodes, nodes]: sender, receiver
    back_s: Floats  # [nodes, nodes]: last stage, first stage
    pinned: frozenset[int] = frozenset()

    @property
    def nodes(self) -> int:
        return int(self.layer_s.shape[0])

    @property
    def layers(self) -> int:
        return int(self.layer_s.shape[1])

    @cached_property
    def seconds(self) -> Floats:
        """[nodes, L + 1]: of all layers below a border."""
        return np.concatenate([np.zeros((self.nodes, 1)), np.cumsum(self.layer_s, axis=1)], axis=1)

    @cached_property
    def bytes_below(self) -> Ints:
        """[L + 1]: of all layers below a border."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.layer_bytes, dtype=np.int64)])

    def reach(self, limit: float) -> Reach:
        """The ranges that fit into memory and take at most `limit` seconds."""
        limit *= 1 + SLACK
        borders = np.arange(self.layers + 1)
        below, end = self.bytes_below, self.layers
        upto = np.empty((self.nodes, end + 1), np.int64)
        first = np.empty(self.nodes, np.int64)
        last = np.empty(self.nodes, np.int64)
        for node, seconds in enumerate(self.seconds):
            time, room = limit - self.fixed_s[node], int(self.capacity[node])
            in_time = np.searchsorted(seconds, seconds + time, "right") - 1
            in_room = np.searchsorted(below, below + room, "right") - 1
            upto[node] = np.maximum(np.minimum(in_time, in_room), borders)
            first[node] = max(min(in_time[0], np.searchsorted(below, room - self.first_bytes, "right") - 1), 0)
            late = np.searchsorted(seconds, seconds[end] + self.head_s[node] - time, "left")
            low = np.searchsorted(below, below[end] + self.last_bytes + self.tied_bytes - room, "left")
            last[node] = min(max(late, low, 1), end)
        whole = below[end] + self.first_bytes + self.last_bytes <= self.capacity
        return Reach(upto, first, last, whole & (self.seconds[:, end] + self.fixed_s + self.head_s <= limit))

    def placed(self, order: Sequence[int], split: Sequence[int]) -> Placement:
        """What this order of nodes with so many layers each comes to, summed from its parts."""
        stages, start = [], 0
        for node, count in zip(order, split, strict=True):
            stages.append(float(self.layer_s[node, start : start + count].sum() + self.fixed_s[node]))
            start += count
        stages[-1] += float(self.head_s[order[-1]])
        hops = [float(self.hop_s[pair]) for pair in pairwise(order)]
        back = float(self.back_s[order[-1], order[0]]) if hops else 0.0
        return Placement(tuple(order), tuple(split), sum(stages) + sum(hops) + back, max(stages + hops))
