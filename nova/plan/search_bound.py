"""What no placement on many nodes can be below: a Lagrangian relaxation. Pure.

Every layer has a price that whoever holds it is paid. Then each node by itself may take its best range of layers, or
none: the prices together and what the nodes gain thereby (below zero) are a lower bound for any prices, since every
placement is one such choice. A stage pays its own time and, unless it holds the first layer, the least hop to its node;
what a first stage holds beside layers and the way back are left out. The prices are moved by the subgradient method
with Polyak's step: up where no node takes a layer, down where several do.
"""

from __future__ import annotations

import numpy as np

from nova.plan.search_instance import SLACK, Floats, Instance, Ints, Reach

PATIENCE = 5
"""Moves without a better bound, after which they are made half as long."""


class Bound:
    """Bounds for one instance, under one limit after the other: prices are kept from one to the next."""

    def __init__(self, instance: Instance) -> None:
        self._in = instance
        self._prices = instance.layer_s.min(axis=0)
        self._pinned = np.isin(np.arange(instance.nodes), sorted(instance.pinned))

    def __call__(self, reach: Reach, limit: float, target: float, moves: int) -> float:
        """At least this is every total with no stage or hop above the limit that `reach` is of; inf where nothing fits.
        Moves end early at `target`, some placement's total."""
        if _too_little(self._in, reach):
            return np.inf
        hop = np.where(self._in.hop_s <= limit * (1 + SLACK), self._in.hop_s, np.inf)
        np.fill_diagonal(hop, np.inf)
        cheapest = hop.min(axis=0)
        best, prices, length, idle = -np.inf, self._prices, 1.0, 0
        for _ in range(moves):
            bound, taken = self._relaxed(reach, cheapest, prices)
            if bound > best:
                best, self._prices, idle = bound, prices, 0
            else:
                idle += 1
                if idle % PATIENCE == 0:
                    length, prices = length / 2, self._prices
                    continue
            slope = 1.0 - taken
            steep = float(slope @ slope)
            if steep == 0 or best >= target or best == np.inf:
                break
            aim = target if np.isfinite(target) else bound + abs(bound) / 10
            prices = prices + length * max(aim - bound, 0.0) / steep * slope
        return best

    def _relaxed(self, reach: Reach, cheapest: Floats, prices: Floats) -> tuple[float, Floats]:
        """The bound that these prices give, and how many nodes take each layer."""
        data = self._in
        borders, every = np.arange(data.layers + 1), np.arange(data.nodes)
        paid = np.concatenate([[0.0], np.cumsum(prices)])
        net = data.seconds - paid
        least, end = _least_after(net[:, :-1], np.minimum(reach.upto[:, :-1], data.layers - 1))
        last = net[:, -1:] + data.head_s[:, None]
        may_end = (borders[:-1] >= reach.last_from[:, None]) | ((borders[:-1] == 0) & reach.alone[:, None])
        to_end = may_end & (last < least)
        least, end = np.where(to_end, last, least), np.where(to_end, data.layers, end)
        gain = least - net[:, :-1] + data.fixed_s[:, None]
        gain[:, 1:] += cheapest[:, None]
        start = gain.argmin(axis=1)
        gained = gain[every, start]
        takes = (gained < 0) | self._pinned
        change = np.zeros(data.layers + 1)
        np.add.at(change, start[takes], 1.0)
        np.add.at(change, end[every, start][takes], -1.0)
        return float(paid[-1] + gained[takes].sum()), np.cumsum(change)[:-1]


def _too_little(instance: Instance, reach: Reach) -> bool:
    """Whether all nodes together cannot hold all layers."""
    borders = np.arange(instance.layers + 1)
    most = np.maximum((reach.upto - borders).max(axis=1), np.where(reach.alone, instance.layers, 0))
    return int(most.sum()) < instance.layers


def _least_after(values: Floats, upto: Ints) -> tuple[Floats, Ints]:
    """[node, k] -> the least of `values[node]` at k + 1 .. upto[node, k], and where; inf where that is nothing."""
    size = values.shape[1]
    rows = np.arange(size)
    spans = upto - rows
    least, where = np.full_like(values, np.inf), np.broadcast_to(rows, values.shape).copy()
    level, at, width = values, where.copy(), 1
    while width <= spans.max():
        node, k = np.nonzero((spans >= width) & (spans < 2 * width))
        left, right = k + 1, upto[node, k] - width + 1
        nearer = level[node, left] <= level[node, right]
        side = np.where(nearer, left, right)
        least[node, k], where[node, k] = level[node, side], at[node, side]
        lower = level[:, :-width] <= level[:, width:]
        at = np.where(lower, at[:, :-width], at[:, width:])
        level = np.where(lower, level[:, :-width], level[:, width:])
        width *= 2
    return least, where
