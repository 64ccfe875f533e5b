"""What the caches of one request cost on a stage, and how much of the node's memory there is for all of them."""

from __future__ import annotations

from nova.engine import batches
from nova.engine.memory import free_bytes
from nova.model.stage import StageModel
from nova.wire.values import EngineSpec, KvCost

STEP = 256
"""Positions by which mlx_lm's caches grow."""


def cost(stage: object, spec: EngineSpec) -> KvCost:
    """Of one request's caches. Nothing is computed for it; an emulated stage's caches take nothing.

    n positions take at most `fixed` + n `per_token`: a cache grows in steps, one of which is in `fixed`, and so is a
    window as a whole. Not counted: a window holds the last piece of a prompt, too, until the chunk behind it;
    and the batch of a group is padded to its longest row, which takes up to `WASTE` times what its rows would alone
    and `SLACK` positions more (`engine/padding.py`; over that only when no more groups may be), and is there twice
    while members come or go.
    """
    budget = spec.kv_bytes or int(spec.kv_share * free_bytes())
    if not isinstance(stage, StageModel):
        return KvCost(0, 0, budget)
    windows = [each.max_size for each in stage.make_cache() if hasattr(each, "max_size")]
    short = STEP * (max([0, *windows]) // STEP + 1)  # past every window, and a whole number of steps
    caches = stage.probed(short)
    held, more = batches.nbytes(caches), batches.nbytes(stage.probed(short + STEP))
    per_token = -(-(more - held) // STEP)
    trimmable = all(each.is_trimmable() for each in caches)
    return KvCost(held - short * per_token + STEP * per_token, per_token, budget, trimmable)
