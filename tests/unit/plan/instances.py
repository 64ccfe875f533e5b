"""Random clusters for the searches' tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nova.plan.search import Instance

OBJECTIVES: dict[str, Callable[[Any, Any], Any]] = {
    "latency": lambda total, slowest: total,
    "throughput": lambda total, slowest: np.maximum(total, 3 * slowest),
    "speculative": lambda total, slowest: total + 2.3 * slowest,
}
"""Of floats and of arrays."""


def cluster(seed: int, nodes: int, layers: int, memory: float, linked: float = 1.0, alike: bool = False) -> Instance:
    """`memory` is that of all nodes over what the model needs, `linked` the share of pairs with a link. With `alike`
    layers all layers cost the same, as most models' do; without, neither seconds nor bytes do, and nodes differ in
    which layers they are good at."""
    draw = np.random.default_rng(seed)
    shape = np.ones((nodes, layers)) if alike else draw.uniform(0.5, 1.5, (nodes, layers))
    layer_bytes = np.full(layers, 100) if alike else draw.integers(50, 200, layers)
    first, last = int(draw.integers(0, 150)), int(draw.integers(0, 150))
    shares = draw.uniform(0.3, 1.7, nodes)
    need = memory * (layer_bytes.sum() + first + last)
    lost = draw.random((2, nodes, nodes)) >= linked
    return Instance(
        layer_s=shape * draw.uniform(1e-3, 6e-3, (nodes, 1)),
        fixed_s=draw.uniform(0, 5e-3, nodes),
        head_s=draw.uniform(0, 10e-3, nodes),
        layer_bytes=layer_bytes.astype(np.int64),
        first_bytes=first,
        last_bytes=last,
        tied_bytes=int(draw.integers(0, 2)) * first,
        capacity=(shares / shares.sum() * need).astype(np.int64),
        hop_s=np.where(lost[0], np.inf, draw.uniform(1e-4, 8e-3, (nodes, nodes))),
        back_s=np.where(lost[1], np.inf, draw.uniform(1e-4, 8e-3, (nodes, nodes))),
    )


def check(instance: Instance, order: tuple[int, ...], split: tuple[int, ...]) -> None:
    """Every layer once, no node twice, memory kept, pinned nodes used, links there."""
    assert len(order) == len(split) == len(set(order))
    assert all(type(count) is int and count >= 1 for count in split)
    assert sum(split) == instance.layers
    assert instance.pinned <= set(order)
    start = 0
    for stage, (node, count) in enumerate(zip(order, split, strict=True)):
        held = instance.layer_bytes[start : start + count].sum()
        held += instance.first_bytes * (stage == 0)
        held += (instance.last_bytes + instance.tied_bytes * (stage > 0)) * (stage == len(order) - 1)
        assert held <= instance.capacity[node]
        start += count
        if stage:
            assert np.isfinite(instance.hop_s[order[stage - 1], node])
    assert len(order) == 1 or np.isfinite(instance.back_s[order[-1], order[0]])
