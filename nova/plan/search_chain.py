"""A good placement on many nodes, without proof: one label per (last node, layers done). Pure.

A label is the cheapest way found to have so many layers done with this node last. It is extended by nodes that are not
yet on it; what the exact search keeps per set of nodes is kept once. So a good continuation may be barred by a node
that was used early, and the result may be above the least.
"""

from __future__ import annotations

import numpy as np

from nova.plan.search_instance import SLACK, Instance, Ints, Placement, Reach


def chain(instance: Instance, reach: Reach, limit: float, thrift: float) -> Placement | None:
    """A placement with no stage or hop above the limit that `reach` is of, or None where none is found.

    With `thrift` the labels also pay so many seconds for each layer that a used node could still hold: where memory is
    short, that keeps those that leave enough of it for the rest.
    """
    nodes, layers = instance.nodes, instance.layers
    every, borders = np.arange(nodes), np.arange(layers + 1)
    hop = np.where(instance.hop_s <= limit * (1 + SLACK), instance.hop_s, np.inf)
    np.fill_diagonal(hop, np.inf)
    pinned = np.isin(every, sorted(instance.pinned))
    # A stage on a pinned node is paid for, more than anything costs: of two labels, the one with more of them stays.
    usual = float(np.max(instance.seconds[:, -1] + instance.fixed_s + instance.head_s))
    reward = np.where(pinned, nodes * (usual + float(hop[np.isfinite(hop)].max(initial=0.0))), 0.0)
    fixed = instance.fixed_s - reward + thrift * (reach.upto - borders).max(axis=1)
    seconds = instance.seconds - thrift * borders
    cost = seconds + fixed[:, None]
    cost[(borders < 1) | (borders > reach.first_upto[:, None]) | (borders == layers)] = np.inf
    since = np.zeros((nodes, layers + 1), np.int64)  # the border that the label's last stage starts at
    source = np.full((nodes, layers + 1), -1)  # the node before it
    first = np.repeat(every[:, None], layers + 1, axis=1)
    used = np.zeros((layers, nodes, nodes), bool)
    best, best_end = np.inf, (-1, -1, -1)
    for node in np.flatnonzero(reach.alone):
        if instance.pinned <= {int(node)}:
            total = float(seconds[node, -1] + fixed[node] + instance.head_s[node])
            best, best_end = min((best, best_end), (total, (int(node), 0, -1)))
    for border in range(1, layers):
        here = np.flatnonzero(np.isfinite(cost[:, border]))
        if not len(here):
            continue
        before, start = source[here, border], since[here, border]
        on = np.where((before >= 0)[:, None], used[start, before], False)
        on[np.arange(len(here)), here] = True
        used[border, here] = on
        arrive = np.where(on, np.inf, cost[here, border][:, None] + hop[here])
        pick = arrive.argmin(axis=0)
        arrived = arrive[pick, every] + fixed - seconds[:, border]
        origin = here[pick]
        ends = arrived + seconds[:, -1] + instance.head_s + instance.back_s[every, first[origin, border]]
        ends[border < reach.last_from] = np.inf
        if instance.pinned:
            ends[~(on[pick] | np.eye(nodes, dtype=bool))[:, pinned].all(axis=1)] = np.inf
        last = int(ends.argmin())
        best, best_end = min((best, best_end), (float(ends[last]), (last, border, int(origin[last]))))
        grown = arrived[:, None] + seconds
        better = (grown < cost) & (borders > border) & (borders <= reach.upto[:, border, None]) & (borders < layers)
        cost = np.where(better, grown, cost)
        since[better] = border
        source = np.where(better, origin[:, None], source)
        first = np.where(better, first[origin, border][:, None], first)
    return None if best == np.inf else _placed(instance, since, source, *best_end)


def _placed(instance: Instance, since: Ints, source: Ints, node: int, start: int, before: int) -> Placement:
    """Back from the last stage, on `node` from border `start` on."""
    order, split, end = [node], [instance.layers - start], start
    while end:
        node, end_of = before, end
        end, before = int(since[node, end_of]), int(source[node, end_of])
        order.append(node)
        split.append(end_of - end)
    return instance.placed(order[::-1], split[::-1])
