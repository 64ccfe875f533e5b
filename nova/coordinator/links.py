"""Whether a link of the group has become much slower than when it was verified. Pure.

Each chunk carries the time at which a stage received it, how long it waited and how long it was computed; so the
time from one stage to the next is known, as far as the two machines' clocks are, and so is that of the token's way
back to the first. A link is slow when most of its last chunks took a given factor longer than they should by what
VERIFY measured, and plainly longer. Decode steps tell of its latency, pieces of prompts of its bandwidth; the few
large ones would not be seen among the many small ones, so each kind is judged by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from nova.transport.select import MESSAGE_BYTES
from nova.wire.values import LinkMeasure
from nova.wire.work import ChunkTiming

CHUNKS = 32
PIECES = 8
"""How many decode steps, and how many pieces of prompts, a verdict rests on: one late packet is not a slow link."""

FLOOR_S = 0.01
"""Below this much more than expected it is nobody's loss; clocks and schedulers wander as far."""


def usual_s(link: LinkMeasure, nbytes: int = 0) -> float:
    """What a message takes, one way, by what was measured; of unknown size, a decode step's."""
    return link.latency_s + (nbytes or MESSAGE_BYTES) / link.bandwidth_bytes_s


def one_way_ns(timing: ChunkTiming, offsets_ns: Sequence[int]) -> dict[int, int]:
    """How long a chunk was on its way, by the rank that sent it; the last rank's is the way of the token before back to
    the first, known for decode steps. Below nought where clocks are not known well enough. Nothing for one stage."""
    received = [hop[0] - offset for hop, offset in zip(timing.hops, offsets_ns, strict=True)]
    computed = [at + (hop[1] + hop[2]) * 1000 for at, hop in zip(received, timing.hops, strict=True)]
    taken = {rank: after - computed[rank] for rank, (_, after) in enumerate(pairwise(received))}
    if timing.sent_ns and taken and not timing.prefill:
        taken[len(received) - 1] = received[0] - (timing.sent_ns - offsets_ns[-1])
    return taken


@dataclass(frozen=True)
class Crossing:
    """One chunk over one link: what it took, and what it should have taken."""

    taken_s: float
    usual_s: float


@dataclass
class LinkWatch:
    """The links of one generation: `expected` by the rank that sends. `factor` 0 never finds one slow."""

    factor: float
    expected: Mapping[int, LinkMeasure]
    told: bool = False
    """A slow link was found and reported: once is enough, until none is slow any more."""
    _recent: dict[tuple[int, bool], deque[Crossing]] = field(default_factory=dict)
    """By the rank that sends, and whether of pieces of prompts."""

    def saw(self, timings: Sequence[ChunkTiming], offsets_ns: Sequence[int]) -> None:
        """Chunks that have passed all stages; offsets are each node's clock minus ours, in pipeline order."""
        for timing in timings:
            if len(timing.hops) != len(offsets_ns):
                continue
            for rank, each in one_way_ns(timing, offsets_ns).items():
                self._crossed(rank, timing, max(0.0, each / 1e9))

    def _crossed(self, rank: int, timing: ChunkTiming, taken_s: float) -> None:
        link = self.expected.get(rank)
        usual = usual_s(link, timing.nbytes) if link is not None else float("inf")
        key = rank, timing.prefill
        if key not in self._recent:
            self._recent[key] = deque(maxlen=PIECES if timing.prefill else CHUNKS)
        self._recent[key].append(Crossing(taken_s, usual))

    @property
    def recent(self) -> dict[int, float]:
        """The median one-way time of late of a decode step in seconds, by the rank that sends."""
        return {
            rank: median(each.taken_s for each in crossings)
            for (rank, prefill), crossings in self._recent.items()
            if not prefill
        }

    def slow(self) -> tuple[int, float, float] | None:
        """(rank that sends, seconds of late, seconds expected) of the worst link that is slow, to be told once."""
        found = []
        for (rank, _), crossings in self._recent.items():
            late = sorted((each for each in crossings if self._is_late(each)), key=lambda each: each.taken_s)
            if len(crossings) == crossings.maxlen and 2 * len(late) > len(crossings):
                middle = late[len(late) // 2]
                found.append((rank, middle.taken_s, middle.usual_s))
        known, self.told = self.told, bool(found)
        return None if known else max(found, key=lambda each: each[1] / each[2], default=None)

    def _is_late(self, crossing: Crossing) -> bool:
        bound = max(self.factor * crossing.usual_s, crossing.usual_s + FLOOR_S)
        return self.factor > 0.0 and crossing.taken_s > bound
