"""How a model's layers are divided among pipeline stages: contiguous, in order, every layer exactly once."""

from __future__ import annotations

from collections.abc import Sequence

from nova.errors import PlanError


def even_split(layers: int, stages: int) -> list[int]:
    """Layers per stage, as even as can be; what is left over goes to the first stages, as the last one also samples.

    Raises PlanError unless there is at least one layer for every stage.
    """
    if stages < 1:
        raise PlanError(f"a model needs at least 1 stage, not {stages}")
    if layers < stages:
        raise PlanError(f"{layers} layers cannot fill {stages} stages: every stage needs at least 1; use fewer nodes")
    base, left_over = divmod(layers, stages)
    return [base + (stage < left_over) for stage in range(stages)]


def check_split(split: Sequence[int], layers: int, stages: int) -> None:
    """Raise PlanError unless `split` gives every one of `stages` at least 1 layer and sums to `layers`."""
    if len(split) != stages:
        raise PlanError(
            f"the split {_sum(split)} has {len(split)} stages, but there are {stages} nodes: give one number per node"
        )
    for stage, count in enumerate(split):
        if count < 1:
            raise PlanError(f"the split {_sum(split)} gives stage {stage} {count} layers; every stage needs at least 1")
    total = sum(split)
    if total != layers:
        off = f"{layers - total} would run on no stage" if total < layers else f"{total - layers} too many"
        raise PlanError(f"the split {_sum(split)} = {total} layers, but the model has {layers}: {off}")


def ranges(split: Sequence[int]) -> list[tuple[int, int]]:
    """Each stage's layers as (start, stop), stop exclusive; the next stage starts where this one stops."""
    bounds: list[tuple[int, int]] = []
    start = 0
    for count in split:
        bounds.append((start, start + count))
        start += count
    return bounds


def _sum(split: Sequence[int]) -> str:
    return " + ".join(str(count) for count in split) or "(empty)"
