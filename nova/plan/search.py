"""Which nodes, in which order, hold which layers: the placement with the least objective. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nova.plan.large import search_large
from nova.plan.search_exact import Exact
from nova.plan.search_front import minimise
from nova.plan.search_instance import Floats, Instance, Objective, Placement
from nova.plan.search_why import nothing_fits

__all__ = ["Instance", "Objective", "Placement", "search"]

SAME = 1e-12
"""Share within which two limits are one."""
STEPS = 10_000
"""Far above what a search takes (some dozens): a guard against an objective that does not rise."""


def search(instance: Instance, objective: Objective, limit_nodes: int = 10, names: Sequence[str] = ()) -> Placement:
    """The best placement: exactly for up to `limit_nodes` nodes, with its `gap` for more.

    Any subset of the nodes in any order, each with a contiguous range of at least one layer. For the least latency the
    objective is the total, for throughput in G groups max(total, G * slowest), with speculation total + r * slowest.
    `names` are the nodes' in messages. Raises PlanError that says what is missing where nothing fits.
    """
    if instance.nodes > limit_nodes:
        return search_large(instance, objective, names)
    placement = minimise(Exact(instance), objective, _limits(instance).tolist(), STEPS)
    if placement is None:
        raise nothing_fits(instance, names)
    return placement


def _limits(instance: Instance) -> Floats:
    """Every time that a stage or hop can take, rising, each once."""
    start, end = np.triu_indices(instance.layers + 1, 1)
    stages = instance.seconds[:, end] - instance.seconds[:, start] + instance.fixed_s[:, None]
    fits = instance.bytes_below[end] - instance.bytes_below[start] <= instance.capacity[:, None]
    last = np.where(end == instance.layers, instance.head_s[:, None], 0.0)
    times = np.concatenate([(stages + last)[fits], instance.hop_s[np.isfinite(instance.hop_s)], [0.0]])
    times = np.unique(times)
    return times[np.diff(times, prepend=-1.0) > SAME * times]
