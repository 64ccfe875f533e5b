"""Why no placement fits, in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nova.errors import PlanError
from nova.plan.search_exact import Exact
from nova.plan.search_instance import Instance

GIB = 1 << 30
FEW = 10
"""Nodes up to which it is found out by a search whether only links are missing."""
NAMED = 6
"""Missing links that a message names."""


def nothing_fits(instance: Instance, names: Sequence[str] = ()) -> PlanError:
    """The error for an instance that has no placement: too little memory, too few layers, or no links."""
    return PlanError(f"no placement fits: {_reason(instance, names)}")


def _reason(instance: Instance, names: Sequence[str]) -> str:
    def name(node: int) -> str:
        return names[node] if names else f"node {node}"

    if not instance.nodes:
        return "there is no node; add one"
    smallest, room = int(instance.layer_bytes.min()), instance.capacity
    able = room >= smallest
    unable = [name(node) for node in sorted(instance.pinned) if not able[node]]
    if unable:
        return f"not one layer ({_gib(smallest)}) fits on {', '.join(unable)}, which must have a stage; unpin it"
    if len(instance.pinned) > instance.layers:
        return f"{len(instance.pinned)} nodes must have a stage, and the model has {instance.layers} layers; unpin some"
    need = int(instance.bytes_below[-1]) + instance.first_bytes + instance.last_bytes
    have = int(room[able].sum())
    if need > have:
        return (
            f"the model's {instance.layers} layers, embedding and head need {_gib(need)} with their caches, and the "
            f"{instance.nodes} nodes have {_gib(have)} for it; add a node, or plan a shorter context or fewer requests"
        )
    largest, most = int(instance.layer_bytes.argmax()), int(room.argmax())
    if instance.layer_bytes[largest] > room[most]:
        return (
            f"layer {largest} needs {_gib(int(instance.layer_bytes[largest]))} with its caches, and the largest node, "
            f"{name(most)}, has {_gib(int(room[most]))} for it; plan a shorter context or fewer requests"
        )
    whole = f"the {instance.layers} layers need {_gib(need)} and the nodes have {_gib(have)} for it, but "
    if instance.nodes <= FEW:
        linked = replace(instance, hop_s=np.zeros_like(instance.hop_s), back_s=np.zeros_like(instance.back_s))
        if Exact(linked)(np.inf, np.inf)[1] is not None:
            return whole + f"there is no link from {_unlinked(instance, name)}"
        return whole + "no division into whole layers fits every node; add memory, or plan a shorter context"
    return whole + "no chain of linked nodes was found that holds it; add links, memory or nodes"


def _unlinked(instance: Instance, name: Callable[[int], str]) -> str:
    """Some of the pairs without a link."""
    apart = ~np.isfinite(instance.hop_s) & ~np.eye(instance.nodes, dtype=bool)
    pairs = [f"{name(int(sender))} to {name(int(receiver))}" for sender, receiver in np.argwhere(apart)]
    return ", ".join(pairs[:NAMED]) + (f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else "")


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
