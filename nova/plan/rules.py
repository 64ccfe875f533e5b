"""Placements by rule: how Nova's predecessor and other programs divide layers, and what a user says himself. Pure.

Each gives (node, layers) in pipeline order, over every node it is given. None looks at the whole problem; that is what
`nova.plan.search` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from nova.errors import PlanError
from nova.plan.costmodel import CostModel, Split, at, spans
from nova.plan.split import check_split, even_split

GIB = 1 << 30


def spread(cost: CostModel, names: Sequence[str]) -> list[tuple[str, int]]:
    """The rule of the NovaMLX report: the fastest node first, which takes all it has room for, and every other one
    `min_layers` at least. Raises PlanError where that does not fit."""
    layers, least = len(cost.shares), cost.workload.min_layers
    if least * len(names) > layers:
        raise PlanError(
            f"spread gives every one of {len(names)} nodes at least {least} layers, and the model has {layers}: "
            "lower plan.min_layers, or use fewer nodes"
        )
    split: list[tuple[str, int]] = []
    ordered = sorted(names, key=lambda name: (at(cost.node(name).layer_s, 1), cost.node(name).fixed_s))
    for index, name in enumerate(ordered):
        first = sum(count for _, count in split)
        most = layers - first - least * (len(ordered) - 1 - index)
        count = most if name == ordered[-1] else _fitting(cost, name, first, least, most)
        split.append((name, count))
    return checked(cost, split, "spread")


def _fitting(cost: CostModel, name: str, first: int, least: int, most: int) -> int:
    """The most layers from `first` on that fit, but `least` anyway."""
    fits = (count for count in range(most, least, -1) if cost.used_bytes(first, first + count) <= cost.room(name))
    return next(fits, least)


def by_memory(cost: CostModel, names: Sequence[str]) -> list[tuple[str, int]]:
    """exo's rule: layers in proportion to memory, by largest remainders, at least 1 each. Raises PlanError where that
    does not fit."""
    layers = len(cost.shares)
    even_split(layers, len(names))  # its errors are this rule's
    total = sum(cost.node(name).memory_bytes for name in names) or 1
    quotas = [layers * cost.node(name).memory_bytes / total for name in names]
    counts = [max(1, int(quota)) for quota in quotas]
    while (off := layers - sum(counts)) != 0:
        owed = [quota - count for quota, count in zip(quotas, counts, strict=True)]
        if off > 0:
            counts[owed.index(max(owed))] += 1
        else:
            counts[owed.index(min(each for each, count in zip(owed, counts, strict=True) if count > 1))] -= 1
    return checked(cost, list(zip(names, counts, strict=True)), "memory")


def evenly(cost: CostModel, names: Sequence[str]) -> list[tuple[str, int]]:
    """mlx-lm's rule: the same number of layers for every node. Raises PlanError where that does not fit."""
    counts = even_split(len(cost.shares), len(names))
    return checked(cost, list(zip(names, counts, strict=True)), "an even split")


def manual(cost: CostModel, split: Split) -> list[tuple[str, int]]:
    """What the user said, checked. Raises PlanError for what does not cover the model once, or does not fit."""
    names = [name for name, _ in split]
    if not names:
        raise PlanError("a manual plan needs nodes with their layers: give them as NODE=LAYERS, in pipeline order")
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"the manual plan has {name} {names.count(name)} times: a node has one stage at most")
    check_split([count for _, count in split], len(cost.shares), len(split))
    return checked(cost, list(split), "manual")


def checked(cost: CostModel, split: list[tuple[str, int]], rule: str) -> list[tuple[str, int]]:
    """The split, if every stage fits its node and has links. Raises PlanError that says which one lacks how much."""
    cost.check_links([name for name, _ in split])
    if missing := lacks(cost, split):
        raise PlanError(f"{rule} does not fit: {'; '.join(missing)}")
    return split


def lacks(cost: CostModel, split: Split) -> list[str]:
    """A sentence for each stage that needs more than its node has."""
    return [
        f"{name} lacks {(used - room) / GIB:.2f} GiB: {stop - first} layers with caches and working space take "
        f"{used / GIB:.2f} GiB, and {room / GIB:.2f} GiB may be used there"
        for name, (first, stop) in spans(split)
        if (used := cost.used_bytes(first, stop)) > (room := cost.room(name))
    ]
