"""Every placement there is, one by one: what searches are compared with. It shares nothing with them but the input."""

from __future__ import annotations

from itertools import accumulate, combinations, permutations

import numpy as np
from numpy.typing import NDArray

from nova.plan.search import Instance

Totals = NDArray[np.float64]


def every_placement(instance: Instance) -> tuple[Totals, Totals]:
    """(total, slowest) of all that fit: all subsets, orders and divisions."""
    nodes, layers = instance.layer_s.shape
    seconds = [np.array(list(accumulate(each, initial=0.0))) for each in instance.layer_s]
    held = np.array(list(accumulate(map(int, instance.layer_bytes), initial=0)))
    totals, peaks = [np.empty(0)], [np.empty(0)]
    for stages in range(1, min(nodes, layers) + 1):
        edges = np.array([(0, *cuts, layers) for cuts in combinations(range(1, layers), stages - 1)])
        for order in permutations(range(nodes), stages):
            if not instance.pinned <= set(order):
                continue
            total, slowest, fits = np.zeros(len(edges)), np.zeros(len(edges)), np.ones(len(edges), bool)
            for stage, node in enumerate(order):
                start, end = edges[:, stage], edges[:, stage + 1]
                takes = seconds[node][end] - seconds[node][start] + instance.fixed_s[node]
                extra = instance.first_bytes if stage == 0 else 0
                if stage == stages - 1:
                    takes += instance.head_s[node]
                    extra += instance.last_bytes + (instance.tied_bytes if stage else 0)
                elif stages > 1:
                    hop = instance.hop_s[node, order[stage + 1]]
                    total += hop
                    slowest = np.maximum(slowest, hop)
                fits &= held[end] - held[start] + extra <= instance.capacity[node]
                total += takes
                slowest = np.maximum(slowest, takes)
            if stages > 1:
                total += instance.back_s[order[-1], order[0]]
            fits &= np.isfinite(total)
            totals.append(total[fits])
            peaks.append(slowest[fits])
    return np.concatenate(totals), np.concatenate(peaks)
