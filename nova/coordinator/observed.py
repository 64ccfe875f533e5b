"""What a token's way through the group takes, stage by stage and hop by hop, while it serves. Pure.

Only decode steps of one row and one position count: that is what a plan's T(1) is about.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from nova.coordinator.links import one_way_ns
from nova.plan.compare import Measured
from nova.wire.work import ChunkTiming

STEPS = 32
"""So many make a verdict; the last so many count."""


class Observed:
    """The last steps of one generation."""

    def __init__(self) -> None:
        self.fresh = 0
        """Steps since the last `used`."""
        self._generation = 0
        self._stages: deque[list[float]] = deque(maxlen=STEPS)
        self._hops: deque[list[float]] = deque(maxlen=STEPS)

    def saw(self, generation: int, timing: ChunkTiming, offsets_ns: Sequence[int]) -> None:
        """A chunk has passed all stages; offsets are each node's clock minus ours, in pipeline order."""
        if generation != self._generation:
            self._generation = generation
            self._stages.clear()
            self._hops.clear()
            self.fresh = 0
        if timing.prefill or timing.width != 1 or len(timing.rows) != 1 or len(timing.hops) != len(offsets_ns):
            return
        ways = one_way_ns(timing, offsets_ns)
        stages = len(timing.hops)
        if stages > 1 and len(ways) < stages:
            return  # its token did not come from the step before
        self.fresh += 1
        self._stages.append([compute_us / 1e6 for _, _, compute_us in timing.hops])
        self._hops.append([max(0.0, ways[rank] / 1e9) for rank in range(stages)] if stages > 1 else [])

    def used(self) -> None:
        """A verdict was made of what was seen."""
        self.fresh = 0

    @property
    def medians(self) -> Measured | None:
        """None before there are enough."""
        if len(self._stages) < STEPS:
            return None
        columns = [[median(column) for column in zip(*rows, strict=True)] for rows in (self._stages, self._hops)]
        return Measured(columns[0], columns[1])
