"""Memory of the stages, reserved for each request before it begins. Pure.

A request's caches grow while it runs; so that none runs into a full memory half-way, what it may need in all is set
aside on every stage: its prompt and all tokens that it may generate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nova.wire.values import KvCost

BLOCK = 256
"""Positions; a cache of mlx_lm grows by so many at once (`mlx_lm.models.cache.KVCache.step`)."""

UNBOUNDED = 1 << 40
"""Positions; the prefix budget where no stage says what a position costs."""


@dataclass
class Admission:
    """One group's memory. `costs` are its stages', None for one that does not say; `nodes` in the same order."""

    nodes: Sequence[str]
    costs: Sequence[KvCost | None]
    prefix_share: float
    _held: dict[int, int] = field(default_factory=dict)
    """Positions, by stream."""

    def never(self, positions: int) -> str:
        """Why a request of so many positions can never run, and what to do; "" if it can."""
        for stage, cost in enumerate(self.costs):
            if cost is not None and (needed := _bytes(cost, positions)) > (room := self._room(cost)):
                return (
                    f"stage {stage} on node {self.nodes[stage]} has {room} bytes for the caches of requests, and "
                    f"{positions} positions may take {needed}: ask for less by max_tokens, shorten the prompt, or give "
                    f"more by engine.kv_bytes, engine.kv_share or a smaller engine.prefix_share"
                )
        return ""

    def fits(self, positions: int) -> bool:
        """Whether every stage has room for it at this moment."""
        return all(
            cost is None or used + _bytes(cost, positions) <= self._room(cost)
            for cost, used in zip(self.costs, self._used, strict=True)
        )

    def reserve(self, stream: int, positions: int) -> None:
        self._held[stream] = positions

    def release(self, stream: int) -> None:
        """Idempotent."""
        self._held.pop(stream, None)

    @property
    def usage(self) -> dict[str, float]:
        """Each node's share of its budget that requests have reserved; without those that do not say."""
        return {
            node: used / cost.budget
            for node, cost, used in zip(self.nodes, self.costs, self._used, strict=True)
            if cost is not None and cost.budget > 0
        }

    @property
    def prefix_tokens(self) -> int:
        """Positions that may be kept for requests that have ended: what the tightest stage has room for."""
        rooms = []
        for cost in self.costs:
            # What a text costs whatever its length is spread over one block, so that many short ones fit as well.
            each = cost.per_token + cost.fixed / BLOCK if cost is not None else 0.0
            if cost is not None and each > 0:
                rooms.append(max(0, int(self.prefix_share * cost.budget / each)))
        return min([*rooms, UNBOUNDED]) if self.prefix_share else 0

    @property
    def trimmable(self) -> bool:
        return all(cost is None or cost.trimmable for cost in self.costs)

    @property
    def _used(self) -> list[int]:
        return [
            sum(_bytes(cost, positions) for positions in self._held.values()) if cost is not None else 0
            for cost in self.costs
        ]

    def _room(self, cost: KvCost) -> int:
        return int(cost.budget * (1.0 - self.prefix_share))


def _bytes(cost: KvCost, positions: int) -> int:
    blocks = -(-positions // BLOCK)
    return max(0, cost.fixed + cost.per_token * blocks * BLOCK)
