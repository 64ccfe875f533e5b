"""Placements on more nodes than can be searched exactly, with a bound on what they lose. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nova.plan.search_bound import Bound
from nova.plan.search_chain import chain
from nova.plan.search_exact import Exact
from nova.plan.search_front import minimise
from nova.plan.search_instance import Floats, Instance, Ints, Objective, Placement, Reach
from nova.plan.search_why import nothing_fits

EXACT_NODES = 8
"""As many of the best are searched exactly: it takes some milliseconds."""
CANDIDATES = 96
"""Nodes that a chain is made of, unless more are needed to hold the model."""
AMPLE = 2
"""Times the layers that the candidates can hold together."""
GRID = 1.005
"""From one limit to the next."""
STEPS = 12
"""Limits that are tried."""
MOVES = 40
"""Of the prices, for each limit."""
THRIFT = (0.0, 0.3, 1.0, 4.0)
"""Mean seconds of a layer that room left unused is taken to cost."""


def search_large(instance: Instance, objective: Objective, names: Sequence[str] = ()) -> Placement:
    """A placement on any number of nodes; its `gap` says how far above a lower bound its value is, as a share of that.

    Under each limit on the slowest stage or hop, the best candidates are chained (`search_chain`), the best few are
    searched exactly, and a relaxation (`search_bound`) says what all nodes cannot be below. Raises PlanError where no
    placement is found.
    """
    limits = _grid(instance)
    placement = minimise(_Least(instance), objective, limits, STEPS, floors=[0.0, *limits[:-1]])
    if placement is None:
        raise nothing_fits(instance, names)
    return placement


class _Least:
    """`search_front.Least`, not exact."""

    def __init__(self, instance: Instance) -> None:
        self._in = instance
        self._bound = Bound(instance)

    def __call__(self, limit: float, most: float) -> tuple[float, Placement | None]:
        reach = self._in.reach(limit)
        few = _best(self._in, reach, CANDIDATES, AMPLE * self._in.layers)
        tried = [*(self._chained(few, limit, thrift) for thrift in THRIFT), self._exact(few[:EXACT_NODES], limit)]
        found = [placed for placed in tried if placed is not None]
        if found:
            used = min(found, key=lambda placed: placed.total_s).order
            if len(used) <= EXACT_NODES:
                more = [node for node in few.tolist() if node not in used]
                found += filter(None, [self._exact(np.array([*used, *more][:EXACT_NODES]), limit)])
        best = min(found, key=lambda placed: placed.total_s, default=None)
        target = min(most, best.total_s) if best else most
        return self._bound(reach, limit, target, MOVES), best

    def _chained(self, nodes: Ints, limit: float, thrift: float) -> Placement | None:
        part = _part(self._in, nodes)
        layer_s = float(part.layer_s.mean())
        return self._whole(nodes, chain(part, part.reach(limit), limit, thrift * layer_s))

    def _exact(self, nodes: Ints, limit: float) -> Placement | None:
        if not self._in.pinned <= set(nodes.tolist()):
            return None
        return self._whole(nodes, Exact(_part(self._in, nodes))(limit, np.inf)[1])

    def _whole(self, nodes: Ints, placed: Placement | None) -> Placement | None:
        return placed and replace(placed, order=tuple(int(nodes[node]) for node in placed.order))


def _part(instance: Instance, nodes: Ints) -> Instance:
    """The instance of these nodes only, in this order."""
    return replace(
        instance,
        layer_s=instance.layer_s[nodes],
        fixed_s=instance.fixed_s[nodes],
        head_s=instance.head_s[nodes],
        capacity=instance.capacity[nodes],
        hop_s=instance.hop_s[np.ix_(nodes, nodes)],
        back_s=instance.back_s[np.ix_(nodes, nodes)],
        pinned=frozenset(at for at, node in enumerate(nodes.tolist()) if node in instance.pinned),
    )


def _best(instance: Instance, reach: Reach, most: int, layers: int) -> Ints:
    """Pinned nodes, then those that take least for each layer when they are full, the cheapest hop included: `most` of
    them, or as many as hold so many layers together."""
    holds = (reach.upto - np.arange(instance.layers + 1)).max(axis=1)
    hop = np.where(np.eye(instance.nodes, dtype=bool), np.inf, instance.hop_s).min(axis=0)
    each = (instance.fixed_s + np.where(np.isfinite(hop), hop, 0.0)) / np.maximum(holds, 1)
    each += instance.layer_s.mean(axis=1)
    pinned = np.isin(np.arange(instance.nodes), sorted(instance.pinned))
    order = np.lexsort((each, holds == 0, ~pinned))
    enough = int(np.searchsorted(np.cumsum(holds[order]), layers)) + 1
    return order[: max(most, enough)]


def _grid(instance: Instance) -> list[float]:
    """Limits from below any stage that could be the slowest to above any stage or hop."""
    hops: Floats = instance.hop_s[np.isfinite(instance.hop_s)]
    highest = max(float((instance.seconds[:, -1] + instance.fixed_s + instance.head_s).max()), hops.max(initial=0.0))
    lowest = max(float((instance.layer_s + instance.fixed_s[:, None]).min(axis=0).max()), highest / 1e6)
    steps = int(np.ceil(np.log(highest / lowest) / np.log(GRID))) + 1 if highest > lowest else 1
    return [*(lowest * GRID ** np.arange(steps)).tolist(), highest * GRID]
