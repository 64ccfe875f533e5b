"""The search's numbers out of a question: one instance for each size of chunk. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nova.plan.costmodel import CostModel
from nova.plan.predict import at
from nova.plan.search import Instance


class Instances:
    """Of these nodes, in this order. What does not depend on the chunk is made once."""

    def __init__(self, cost: CostModel, names: Sequence[str], pinned: frozenset[str] = frozenset()) -> None:
        self._cost, self._nodes = cost, [cost.node(name) for name in names]
        self._shares = np.array(cost.shares)
        weights = [layer.weight_bytes for layer in cost.model.layers]
        self._layer_bytes = np.array(weights, np.int64) + np.array(cost.cache_bytes, np.int64)
        capacity = [cost.room(name) - cost.workload.working_bytes for name in names]
        self._capacity = np.array(capacity, np.int64)
        self._pinned = frozenset(index for index, name in enumerate(names) if name in pinned)
        index = {name: number for number, name in enumerate(names)}
        self._back_s = np.full((len(names), len(names)), np.inf)
        self._position_s = np.zeros((len(names), len(names)))
        """What each position of a chunk adds to a hop's latency."""
        for (sender, receiver), link in cost.links.items():
            if sender in index and receiver in index:
                pair = index[sender], index[receiver]
                self._back_s[pair] = link.latency_s
                self._position_s[pair] = cost.hop_s(sender, receiver, 1) - link.latency_s

    def at(self, positions: int) -> Instance:
        """For chunks of so many positions, all of which go through the head."""
        model = self._cost.model
        return Instance(
            layer_s=np.outer([at(node.layer_s, positions) for node in self._nodes], self._shares),
            fixed_s=np.array([node.fixed_s for node in self._nodes]),
            head_s=np.array([at(node.head_s, positions) for node in self._nodes]),
            layer_bytes=self._layer_bytes,
            first_bytes=model.embedding_bytes,
            last_bytes=model.head_bytes,
            tied_bytes=model.embedding_bytes if model.tied else 0,
            capacity=self._capacity,
            hop_s=self._back_s + positions * self._position_s,
            back_s=self._back_s,
            pinned=self._pinned,
        )


def least_s(instance: Instance) -> float:
    """Less than any placement's total: each layer where it is fastest, one stage's fixed time, no hop."""
    return float(instance.layer_s.min(axis=0).sum() + instance.fixed_s.min() + instance.head_s.min())
