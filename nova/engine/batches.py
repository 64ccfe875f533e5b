"""Caches of several requests as one: what mlx-lm's batch caches are asked for, and when they can be had.

A batch has one row for each request. The rows' lengths differ, so they are padded on the left; its masks know. With
MLX's own kernels on a CPU a row of a batch gets the same bits as alone, because sums go over the positions in their
order, and padding adds zeros in front of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, QuantizedKVCache, RotatingKVCache

from nova.errors import EngineError

Cache = list[Any]
"""One mlx_lm cache per layer of the stage."""

ALONE = (RotatingKVCache, ArraysCache, CacheList)
"""These can merge, and their rows run one after another all the same. A merged RotatingKVCache turns all rows at one
place, so that sums go over the positions in another order than alone, and bits differ. No model whose stages are
proven has the others."""


def can_merge(layers: Cache) -> bool:
    """Whether a row of a batch of such caches gets what it gets alone."""
    return all(hasattr(each, "merge") and not isinstance(each, ALONE) for each in layers)


def states(layers: Cache) -> list[Any]:
    """What `mx.eval` takes, so that nothing of the caches is left to be computed."""
    return [each.state for each in layers]


def nbytes(layers: Cache) -> int:
    """Bytes that the caches hold. Arrays that a fork shares with its source count for both."""
    leaves: Any = tree_flatten(states(layers))
    return sum(leaf.nbytes for _, leaf in leaves if isinstance(leaf, mx.array))


def fork(layers: Cache, length: int, position: int) -> Cache:
    """Caches of `length` positions as caches of the first `position` of them. Nothing is copied until they grow.

    Raises EngineError for caches that cannot be cut back.
    """
    forked = copy.deepcopy(layers)  # the caches; MLX's arrays are shared, and copied by the first write to either
    if position < length:
        for each in forked:
            if not each.is_trimmable():
                kind = type(each).__name__
                raise EngineError(f"a {kind} of {length} positions cannot be cut back to {position}: keep whole texts")
            each.trim(length - position)
    for each in forked:
        if isinstance(each, KVCache | QuantizedKVCache) and each.keys is not None:
            # Without room at its end the first write moves it, so it never holds on to a longer text's memory.
            each.keys, each.values = tree_map(lambda array: array[..., :position, :], (each.keys, each.values))
    return forked


class Batch:
    """The merged caches of a group of requests. `members` are their streams by row, None where one was dropped; `used`
    is for their owner, when they last took part in a chunk."""

    __slots__ = ("group", "layers", "members", "used")

    def __init__(self, group: int, members: Sequence[int], caches: Sequence[Cache]) -> None:
        self.group = group
        self.members: list[int | None] = list(members)
        self.used = 0
        self.layers = _merged(caches)
        mx.eval(states(self.layers))

    def extract(self, stream: int) -> Cache:
        """A copy of one member's caches."""
        row = self.members.index(stream)
        layers = [each.extract(row) for each in self.layers]
        mx.eval(states(layers))  # or it would keep the batch from being written in place
        return layers

    def forget(self, stream: int) -> None:
        """The row is nobody's any more. It goes when the batch changes next."""
        self.members[self.members.index(stream)] = None

    @property
    def empty(self) -> bool:
        return not any(self.members)

    def change(self, members: Sequence[int], joining: Sequence[int], caches: Sequence[Cache]) -> None:
        """Make the rows be those of `members`, in this order. `caches` are those of the members that are new."""
        self._pick([self.members.index(member) for member in members if member not in joining])
        if joining:
            for each, other in zip(self.layers, _merged(caches), strict=True):
                each.extend(other)
            self.members += joining
        self._pick([self.members.index(member) for member in members])
        mx.eval(states(self.layers))

    def _pick(self, rows: list[int]) -> None:
        """Keep these rows, in this order. They are copied, unless they are all there in their places."""
        if rows != list(range(len(self.members))):
            for each in self.layers:
                each.filter(mx.array(rows))
            self.members = [self.members[row] for row in rows]

    def settled(self, out: mx.array) -> mx.array:
        """`out`, whose evaluation brings the rows' offsets up to date. A layer without positions in its attention
        never asks for them, and they would grow by one unevaluated step with every token."""
        found = [getattr(each, "offset", None) for each in self.layers]
        offsets = [offset for offset in found if isinstance(offset, mx.array)]
        return mx.depends(out, offsets) if offsets else out


def _merged(caches: Sequence[Cache]) -> Cache:
    return [same[0].merge(same) for same in zip(*caches, strict=True)]
