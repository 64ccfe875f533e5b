"""The best placement by trying every one: each subset of the nodes, in each order, with each division of the layers.

Written from the formulas and not from Nova's planner, whose answers are held against it.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, pairwise, permutations

import numpy as np
from numpy.typing import NDArray

from nova.plan.inputs import Question

Floats = NDArray[np.float64]


@cache
def borders(layers: int, stages: int) -> NDArray[np.int64]:
    """[divisions, stages + 1]: where each stage starts, and where the last one stops."""
    return np.array([(0, *cuts, layers) for cuts in combinations(range(1, layers), stages - 1)], np.int64)


def best_seconds(question: Question) -> dict[str, float]:
    """For each goal the least seconds: of a token, of a batch's cycle over the batch, and of a speculative epoch times
    (1 - acceptance). Infinite where nothing fits."""
    workload, layers, nodes = question.workload, len(question.model.layers), question.nodes
    alpha, batch = workload.acceptance, workload.batch
    best = {"latency": np.inf, "throughput": np.inf, "speculative": np.inf}
    sizes = {-(-batch // groups) for groups in range(1, batch + 1)}
    for stages in range(1, min(len(nodes), layers) + 1):
        for order in permutations(range(len(nodes)), stages):
            splits = borders(layers, stages)
            splits = splits[_fits(question, order, splits)]
            if not len(splits):
                continue
            times = {n: _times(question, order, splits, n) for n in {1, 2, 3, 4} | sizes}
            best["latency"] = min(best["latency"], times[1][0].min())
            for groups in range(1, batch + 1):
                total, slowest = times[-(-batch // groups)]
                seconds = np.maximum(total, groups * slowest).min() / batch
                best["throughput"] = min(best["throughput"], seconds)
            for width in (1, 2, 3, 4):
                total, slowest = times[width]
                seconds = (total + slowest * alpha**width / (1 - alpha**width)).min() * (1 - alpha)
                best["speculative"] = min(best["speculative"], seconds)
    return {goal: float(seconds) for goal, seconds in best.items()}


def _fits(question: Question, order: tuple[int, ...], splits: NDArray[np.int64]) -> NDArray[np.bool_]:
    model, workload = question.model, question.workload
    held = [
        layer.weight_bytes
        + workload.batch
        * (layer.kv_fixed_bytes + layer.kv_token_bytes * min(workload.context, layer.window or workload.context))
        for layer in model.layers
    ]
    below = np.concatenate([[0], np.cumsum(held)])
    used = below[splits[:, 1:]] - below[splits[:, :-1]] + workload.working_bytes
    used[:, 0] += model.embedding_bytes
    used[:, -1] += model.head_bytes + (model.embedding_bytes if model.tied and len(order) > 1 else 0)
    room = [int(question.nodes[node].memory_bytes * (1 - workload.head_room)) for node in order]
    fits: NDArray[np.bool_] = (used <= np.array(room)).all(axis=1)
    return fits


def _times(
    question: Question, order: tuple[int, ...], splits: NDArray[np.int64], positions: int
) -> tuple[Floats, Floats]:
    """Of each division: a chunk's seconds in all, and those of the largest stage or hop."""
    reads = np.array([layer.read_bytes for layer in question.model.layers], np.float64)
    below = np.concatenate([[0.0], np.cumsum(reads / reads.mean())])
    links = {(link.sender, link.receiver): link for link in question.links}
    columns = []
    for stage, node in enumerate(order):
        profile = question.nodes[node]
        shares = below[splits[:, stage + 1]] - below[splits[:, stage]]
        head_s = _curve(profile.head_s, positions) if stage == len(order) - 1 else 0.0
        columns.append(profile.fixed_s + shares * _curve(profile.layer_s, positions) + head_s)
    names = [question.nodes[node].name for node in order]
    hops = []
    for pair in pairwise(names):
        link = links.get(pair)
        size = positions * question.model.hidden_bytes
        hops.append(np.inf if link is None else link.latency_s + size / link.bandwidth_bytes_s)
    back = links.get((names[-1], names[0]))
    back_s = 0.0 if len(names) == 1 else np.inf if back is None else back.latency_s
    times = np.stack(columns)
    return times.sum(axis=0) + sum(hops) + back_s, np.maximum(times.max(axis=0), max(hops, default=0.0))


def _curve(points: list[tuple[int, float]], positions: int) -> float:
    """Inside the measured widths, which is all that is asked for here."""
    return float(np.interp(positions, [width for width, _ in points], [seconds for _, seconds in points]))
