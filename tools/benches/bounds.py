"""What a pipeline of stages could do at best, and what a run's own timings say that it did. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nova.wire.work import ChunkTiming

StageTimes = Callable[[int], Sequence[float]]
"""Seconds of each stage for a chunk of so many rows."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class Bound:
    """The best division of the streams into micro-batches. `saturated`: the slowest stage is never idle then, as equal
    groups take all its time."""

    rate: float
    groups: int
    saturated: bool


def best(times: StageTimes, streams: int, divisions: Iterable[int] | None = None) -> Bound:
    """Tokens per second of `streams` that all decode: the best G of B / max(sum T_i(b), G max T_i(b)), b = ceil(B / G).

    A group's token takes at least the sum of the stages, and the slowest stage takes all groups in turn. `divisions`
    are the G that are considered, all by default; of equals the fewest groups.
    """
    bounds = []
    for groups in divisions or range(1, streams + 1):
        stages = times(-(-streams // groups))
        whole, slowest = sum(stages), groups * max(stages)
        filled = slowest >= whole * (1 - ROUNDING) and streams % groups == 0
        bounds.append(Bound(streams / max(whole, slowest), groups, filled))
    highest = max(bound.rate for bound in bounds)
    return next(bound for bound in bounds if bound.rate >= highest * (1 - ROUNDING))


def lockstep(times: StageTimes, streams: int) -> float:
    """Tokens per second where all streams go round in one batch, as one node's server has it."""
    return streams / sum(times(streams))


def measured_best(times: Mapping[int, Sequence[float]], streams: int) -> Bound:
    """`best` of those divisions whose chunks the run has timed. Raises ValueError where it has timed none."""
    seen = [groups for groups in range(1, streams + 1) if -(-streams // groups) in times]
    if not seen:
        raise ValueError(f"no chunk of {streams} streams or a part of them was timed, only chunks of {sorted(times)}")
    return best(times.__getitem__, streams, seen)


def decode_times(chunks: Sequence[ChunkTiming], least: int = 5) -> dict[int, list[float]]:
    """Median seconds of each stage for a decode chunk, by its number of rows; only of what was seen `least` times."""
    seen: dict[int, list[ChunkTiming]] = {}
    for chunk in chunks:
        if not chunk.prefill:
            seen.setdefault(len(chunk.rows), []).append(chunk)
    return {
        rows: [statistics.median(hops) for hops in zip(*(computed(chunk) for chunk in found), strict=True)]
        for rows, found in sorted(seen.items())
        if len(found) >= least
    }


def computed(chunk: ChunkTiming) -> list[float]:
    """Seconds that each stage computed."""
    return [hop[2] / 1e6 for hop in chunk.hops]


def busy(chunks: Sequence[ChunkTiming], offsets_ns: Sequence[int], since_ns: int, until_ns: int) -> list[float]:
    """Share of that time in which each stage computed; `offsets_ns` is each stage's clock minus that of the times."""
    shares = []
    for stage, offset in enumerate(offsets_ns):
        inside = 0
        for chunk in chunks:
            received, waited_us, compute_us = chunk.hops[stage]
            start = received - offset + waited_us * 1000
            inside += max(0, min(until_ns, start + compute_us * 1000) - max(since_ns, start))
        shares.append(inside / (until_ns - since_ns))
    return shares


@dataclass(frozen=True)
class Prefill:
    """How one prompt crossed the stages. Seconds; `flow` is what its own chunks would take without a pause between."""

    chunks: int
    stages: int
    compute: float
    wall: float
    flow: float

    @property
    def speedup(self) -> float:
        """Over computing the same chunks one after the other."""
        return self.compute / self.wall

    @property
    def ideal(self) -> float:
        """S C / (C + S - 1): equal chunks, equal stages."""
        return self.stages * self.chunks / (self.chunks + self.stages - 1)


def prefill(chunks: Sequence[ChunkTiming], stream: int) -> Prefill:
    """The prompt of `stream`. Raises ValueError where no piece of it was timed."""
    pieces = [chunk for chunk in chunks if chunk.prefill and chunk.rows[0][0] == stream]
    if not pieces:
        raise ValueError(f"no piece of stream {stream}'s prompt was timed")
    pieces.sort(key=lambda chunk: chunk.rows[0][1])
    work = [computed(chunk) for chunk in pieces]
    wall = (pieces[-1].done_ns - pieces[0].sent_ns) / 1e9
    return Prefill(len(pieces), len(work[0]), sum(map(sum, work)), wall, flow_shop(work))


def flow_shop(work: Sequence[Sequence[float]]) -> float:
    """When the last of these chunks leaves the last stage, each stage taking them in order and as soon as it can."""
    free = [0.0] * len(work[0])
    for chunk in work:
        ready = 0.0
        for stage, seconds in enumerate(chunk):
            ready = free[stage] = max(ready, free[stage]) + seconds
    return free[-1]


def rate(arrivals: Sequence[Sequence[int]], since_ns: int, until_ns: int) -> float:
    """Tokens per second of all streams between two moments: of each the pace between its first and last token there."""
    total = 0.0
    for stream in arrivals:
        inside = [at for at in stream if since_ns <= at <= until_ns]
        if len(inside) > 1:
            total += (len(inside) - 1) * 1e9 / (inside[-1] - inside[0])
    return total


def gaps(arrivals: Sequence[Sequence[int]], since_ns: int, until_ns: int) -> list[float]:
    """Seconds between the tokens of each stream, for those that came between two moments."""
    return [
        (after - before) / 1e9
        for stream in arrivals
        for before, after in pairwise(stream)
        if since_ns <= after <= until_ns
    ]
