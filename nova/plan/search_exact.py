"""The least total of stages and hops, exactly, by dynamic programming over (nodes used, last node, layers done). Pure.

Two passes. Backward finds the least seconds from every state to the end, with the cheapest way back from the last
stage whatever node was the first. Forward goes from each first node with its true way back, and keeps only states that
can still end in time. A stage's seconds are differences of sums, so the best start of each range is the minimum of a
sliding window, for all states of a size at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nova.plan.search_instance import SLACK, Floats, Instance, Ints, Placement, Reach
from nova.plan.search_sets import sets_of
from nova.plan.search_window import after, before

ROUNDING = 1e-12
"""Share by which sums of the same seconds may differ."""
REUSE = 1.06
"""Up to so much below the limit of an earlier backward pass, its bounds still serve."""
KEPT = 6
"""Backward passes; one takes 5 MB at ten nodes and 128 layers."""


class _Rows(NamedTuple):
    """States of one number of stages. `cost[k, r]`: least seconds until k layers are done."""

    first: Ints
    mask: Ints
    last: Ints
    cost: Floats  # [L + 1, rows]


class Exact:
    """Searches of one instance. Calling it is `search_front.Least`."""

    def __init__(self, instance: Instance) -> None:
        self._in = instance
        self._sets, self._rank, self._place = sets_of(instance.nodes)
        self._pinned = sum(1 << node for node in instance.pinned)
        others = np.where(np.eye(instance.nodes, dtype=bool), np.inf, instance.back_s)
        self._back = others.min(axis=1)
        farthest = np.where(np.isfinite(others), others, -np.inf).max(axis=1)
        self._rests: list[tuple[float, list[Floats]]] = []
        self._spread = float((farthest - self._back).max(initial=0.0))

    def __call__(self, limit: float, most: float) -> tuple[float, Placement | None]:
        reach = self._in.reach(limit)
        hop = np.where(self._in.hop_s <= limit * (1 + SLACK), self._in.hop_s, np.inf)
        found = [
            placed for placed in (self._alone(reach), self._several(limit, most, reach, hop)) if placed is not None
        ]
        best = min(found, key=lambda placed: placed.total_s, default=None)
        return (np.inf, None) if best is None else (best.total_s, best)

    def _nearest(self, limit: float) -> tuple[float, list[Floats]]:
        """Of the latest backward passes the one with the least limit that is no lower."""
        above = [kept for kept in self._rests if kept[0] >= limit]
        return min(above, key=lambda kept: kept[0], default=(np.inf, []))

    def _alone(self, reach: Reach) -> Placement | None:
        layers = self._in.layers
        able = [node for node in np.flatnonzero(reach.alone) if not self._pinned & ~(1 << int(node))]
        choices = [self._in.placed((int(node),), (layers,)) for node in able]
        return min(choices, key=lambda placed: placed.total_s, default=None)

    def _several(self, limit: float, most: float, reach: Reach, hop: Floats) -> Placement | None:
        if self._in.nodes == 1:
            return None
        start = self._start(reach)
        above, rest = self._nearest(limit)
        if not rest or limit * REUSE < above:
            rest = self._backward(reach, hop)
            self._rests = [*self._rests[-KEPT + 1 :], (limit, rest)]
        least = float((start.cost + rest[1]).min())
        if least > most:
            return None
        if least + self._spread < most:
            near = self._forward(reach, hop, rest, start, least + self._spread)
            if near is not None:
                return near
        return self._forward(reach, hop, rest, start, most)

    def _start(self, reach: Reach) -> _Rows:
        nodes = np.arange(self._in.nodes)
        cost = (self._in.seconds + self._in.fixed_s[:, None]).T
        border = np.arange(self._in.layers + 1)[:, None]
        cost = np.where((border >= 1) & (border <= reach.first_upto) & (border < self._in.layers), cost, np.inf)
        return _Rows(nodes, 1 << nodes, nodes, cost)

    def _backward(self, reach: Reach, hop: Floats) -> list[Floats]:
        """For each number of stages, [L + 1, places * sets]: least seconds from the end of a stage on its a-th member
        to the end of all, in column a * sets + r."""
        data, rest = self._in, [np.empty((0, 0))] * self._in.nodes
        borders = np.arange(data.layers + 1)
        beyond = np.full((data.layers + 1, len(self._sets[-1].masks) * data.nodes), np.inf)
        for size in range(data.nodes - 1, 0, -1):
            sets = self._sets[size]
            count = len(sets.masks)
            on = np.full((data.layers + 1, sets.outside.size), np.inf)
            for node in range(data.nodes):
                columns = np.flatnonzero(sets.outside.ravel() == node)
                masks = sets.masks[columns % count]
                joined = masks | 1 << node
                source = self._place[joined, node] * len(self._sets[size + 1].masks) + self._rank[joined]
                seconds = data.seconds[node][:, None]
                cost = after(beyond[:, source] + seconds, reach.upto[node])
                ends = seconds[-1] + data.head_s[node] + self._back[node]
                may_end = (borders >= reach.last_from[node]) & (borders < data.layers)
                complete = joined & self._pinned == self._pinned
                np.minimum(cost, ends, out=cost, where=may_end[:, None] & complete)
                on[:, columns] = cost - seconds + data.fixed_s[node]
            here = np.full((data.layers + 1, sets.inside.size), np.inf)
            for a, member in enumerate(sets.inside):
                best = here[:, a * count : (a + 1) * count]
                for b, other in enumerate(sets.outside):
                    np.minimum(best, on[:, b * count : (b + 1) * count] + hop[member, other], out=best)
            here[-1] = np.inf
            rest[size] = beyond = here
        return rest

    def _forward(self, reach: Reach, hop: Floats, rest: list[Floats], start: _Rows, most: float) -> Placement | None:
        """The least total up to `most`."""
        data, steps, best = self._in, [start], (np.inf, 0, 0, 0, 0)
        most *= 1 + ROUNDING
        for size in range(1, data.nodes):
            rows, grown = steps[-1], []
            for node in range(data.nodes):
                joining = np.flatnonzero((rows.mask >> node & 1 == 0) & np.isfinite(hop[rows.last, node]))
                if not len(joining):
                    continue
                firsts, masks, before_s = self._merged(rows, joining, hop[:, node])
                before_s -= data.seconds[node][:, None]
                fixed = data.fixed_s[node]
                ends = before_s[reach.last_from[node] : data.layers].min(axis=0, initial=np.inf)
                ends += data.seconds[node, -1] + fixed + data.head_s[node] + data.back_s[node, firsts]
                joined = masks | 1 << node
                ends[joined & self._pinned != self._pinned] = np.inf
                least = int(ends.argmin())
                best = min(best, (float(ends[least]), size, node, int(firsts[least]), int(masks[least])))
                if size == data.nodes - 1:
                    continue
                cost = before(before_s, reach.upto[node]) + (data.seconds[node] + fixed)[:, None]
                column = self._place[joined, node] * len(self._sets[size + 1].masks) + self._rank[joined]
                cost[cost + rest[size + 1][:, column] > most] = np.inf
                alive = np.isfinite(cost).any(axis=0)
                last = np.full(int(alive.sum()), node)
                grown.append(_Rows(firsts[alive], joined[alive], last, cost[:, alive]))
            if not grown:
                break
            steps.append(
                _Rows(
                    np.concatenate([each.first for each in grown]),
                    np.concatenate([each.mask for each in grown]),
                    np.concatenate([each.last for each in grown]),
                    np.concatenate([each.cost for each in grown], axis=1),
                )
            )
        return None if best[0] == np.inf or best[0] > most else self._traced(reach, hop, steps, *best[1:])

    def _merged(self, rows: _Rows, joining: Ints, hop: Floats) -> tuple[Ints, Ints, Floats]:
        """First node, set, and least seconds until k layers are done and have arrived, of the rows that differ."""
        key = rows.first[joining] << self._in.nodes | rows.mask[joining]
        order = np.argsort(key, kind="stable")
        key, joining = key[order], joining[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        arrived = rows.cost[:, joining] + hop[rows.last[joining]]
        return rows.first[joining[starts]], rows.mask[joining[starts]], np.minimum.reduceat(arrived, starts, axis=1)

    def _traced(
        self, reach: Reach, hop: Floats, steps: list[_Rows], size: int, node: int, first: int, mask: int
    ) -> Placement:
        """The placement whose last stage is on `node`, behind stages on the nodes of `mask`."""
        end, lowest = self._in.layers, int(reach.last_from[node])
        order, split = [node], list[int]()
        for rows in reversed(steps[:size]):
            same = np.flatnonzero((rows.first == first) & (rows.mask == mask))
            arrived = (
                rows.cost[lowest:end, same] + hop[rows.last[same], node] - self._in.seconds[node, lowest:end, None]
            )
            start, row = divmod(int(arrived.argmin()), len(same))
            split.append(end - lowest - start)
            end, node = lowest + start, int(rows.last[same[row]])
            order.append(node)
            mask &= ~(1 << node)
            lowest = int(np.searchsorted(reach.upto[node], end))
        return self._in.placed(order[::-1], [end, *split[::-1]])
