"""Whether a link of the group has become much slower than when it was verified. Pure.

Each chunk carries the time at which a stage received it, how long it waited and how long it was computed; so the
time from one stage to the next is known, as far as the two machines' clocks are, and so is that of the token's way
back to the first. A link is slow when the median of
its last chunks is a given factor above what VERIFY measured for a message of that size, and plainly so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from nova.transport.select import MESSAGE_BYTES
from nova.wire.values import LinkMeasure, TokenTiming

CHUNKS = 32
"""How many chunks a verdict rests on: one late packet is not a slow link."""

FLOOR_S = 0.003
"""Below this much more than expected it is nobody's loss; clocks and schedulers wander as far."""


def usual_s(link: LinkMeasure) -> float:
    """What a decode step's message takes, one way, by what was measured."""
    return link.latency_s + MESSAGE_BYTES / link.bandwidth_bytes_s


@dataclass
class LinkWatch:
    """The links of one generation: `expected` by the rank that sends. `factor` 0 never finds one slow."""

    factor: float
    expected: Mapping[int, LinkMeasure]
    told: bool = False
    """A slow link was found and reported: once is enough, until none is slow any more."""
    _recent: dict[int, deque[float]] = field(default_factory=dict)

    def saw(self, timings: Sequence[TokenTiming], offsets_ns: Sequence[int]) -> None:
        """Chunks that have passed all stages; offsets are each node's clock minus ours, in pipeline order."""
        for timing in timings:
            if timing.prefill or len(timing.hops) != len(offsets_ns):
                continue  # a piece of a prompt is as large as it is long: it says nothing of a message's time
            received = [hop[0] - offset for hop, offset in zip(timing.hops, offsets_ns, strict=True)]
            computed = [at + (hop[1] + hop[2]) * 1000 for at, hop in zip(received, timing.hops, strict=True)]
            taken_ns = {rank: after - computed[rank] for rank, (_, after) in enumerate(pairwise(received))}
            if timing.sent_ns and taken_ns:
                taken_ns[len(received) - 1] = received[0] - (timing.sent_ns - offsets_ns[-1])
            for rank, each in taken_ns.items():
                self._recent.setdefault(rank, deque(maxlen=CHUNKS)).append(max(0.0, each / 1e9))

    @property
    def recent(self) -> dict[int, float]:
        """The median one-way time of late in seconds, by the rank that sends."""
        return {rank: median(times) for rank, times in self._recent.items()}

    def slow(self) -> tuple[int, float, float] | None:
        """(rank that sends, seconds of late, seconds expected) of the worst link that is slow, to be told once."""
        found = []
        for rank, taken_s in self.recent.items():
            if rank not in self.expected or len(self._recent[rank]) < CHUNKS or not self.factor:
                continue
            verified_s = usual_s(self.expected[rank])
            if taken_s > max(self.factor * verified_s, verified_s + FLOOR_S):
                found.append((rank, taken_s, verified_s))
        known, self.told = self.told, bool(found)
        return None if known else max(found, key=lambda each: each[1] / each[2], default=None)
