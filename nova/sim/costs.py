"""What the scheduler learns of many stages, at a price that does not grow with them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from nova.plan.costs import Costs
from nova.plan.curve import Curve


class WideCosts(Costs):
    """`Costs` that keeps two figures of each chunk: the seconds of all stages, and of the slowest one. All decisions
    are made of these two.

    On times that grow with the size of a chunk the sums are those that `Costs` has. So are the slowest, as long as one
    stage is the slowest at every size; else they are at most too high, and only between two sizes that were seen.
    """

    def saw(self, prefill: bool, positions: int, seconds: Sequence[float], disturbed: bool = False) -> None:
        super().saw(prefill, positions, (sum(seconds), max(seconds)), disturbed)

    def _at(self, positions: int, curve: Curve, other: Curve, share: float = 1.0) -> list[float]:
        """The slowest stage, and as few equal ones as make up the sum without being slower."""
        times = super()._at(positions, curve, other, share)
        if not self.known:
            return times
        whole, slowest = times
        others = min(max(ceil((whole - slowest) / slowest), 1), self.stages - 1)
        return [slowest] + [min((whole - slowest) / others, slowest)] * others
