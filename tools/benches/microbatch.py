"""Streams that decode together over emulated stages, beside the best that any division into micro-batches could do.

Each case is a closed loop of B requests over S nodes; a window of it is measured once it runs evenly. The bound is the
best G of B / max(sum T_i(b), G max T_i(b)) with b = ceil(B / G), up to the S + 1 chunks that may be under way; the gain
is over one batch in lock-step.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from benches.bounds import best, busy, lockstep
from benches.report import Progress, Report, machine
from benches.streams import decoding
from nova import paths
from nova.control.client import Client
from nova.local.cluster import ClusterPlan, running
from nova.plan.profiles import PREFIX, PROFILES, Profile
from nova.plan.split import ranges

STREAMS = (1, 2, 3, 4, 6, 8, 12, 16)
STAGES = (2, 3, 4)
NAMES = ("m5dense", "m4dense", "moe")
WARM_TOKENS, WARM_S, WINDOW_S = 4, 3.0, 6.0
FLOOR = 0.95


@dataclass(frozen=True)
class Extent:
    """What is measured, and for how long each."""

    names: tuple[str, ...] = NAMES
    stages: tuple[int, ...] = STAGES
    streams: tuple[int, ...] = STREAMS
    warm_s: float = WARM_S
    window_s: float = WINDOW_S


QUICK = Extent(("m5dense", "moe"), (2, 3), (1, 4, 8), 2.0, 3.0)


def run(progress: Progress, quick: bool = False) -> Report:
    return asyncio.run(_run(progress, QUICK if quick else Extent()))


async def _run(progress: Progress, extent: Extent) -> Report:
    report = Report("microbatch", machine())
    for name in extent.names:
        for stages in extent.stages:
            profile = PROFILES[name]
            split = profile.stages(stages)
            plan = ClusterPlan(stages, PREFIX + name, split, ["tcp"])
            async with running(plan, paths.home()) as cluster, cluster.client() as client:
                for streams in extent.streams:
                    progress(f"{name}, {stages} stages, {streams} streams")
                    await _case(report, client, profile, split, streams, extent)
    return report


async def _case(
    report: Report, client: Client, profile: Profile, split: list[int], streams: int, extent: Extent
) -> None:
    async with decoding(client, [[index] * 4 for index in range(streams)]) as loop:
        await loop.each(WARM_TOKENS)
        await loop.watch(extent.warm_s)
        window = await loop.watch(extent.window_s)
        await loop.watch(extent.window_s / 10)  # so that what was under way at the end has landed
    trace = await client.trace(loop.requests[0])
    shares = busy(trace.chunks, trace.offsets_ns, *window)

    def times(rows: int) -> list[float]:
        return [profile.position_ms(*layers) * profile.width_factor(rows) / 1e3 for layers in ranges(split)]

    divisions = range(1, min(streams, len(split) + 1) + 1)
    bound, measured = best(times, streams, divisions), loop.rate(window)
    case = f"{profile.name} S={len(split)} B={streams}"
    report.measured(f"{case}, all streams", "tok/s", [measured])
    report.measured(f"{case}, over lock-step (at best {bound.rate / lockstep(times, streams):.2f})", "x",
                    [measured / lockstep(times, streams)])  # fmt: skip
    report.measured(f"{case}, between tokens", "ms", [each * 1e3 for each in loop.gaps(window)])
    report.measured(f"{case}, busiest stage", "%", [max(shares) * 100])
    report.check(f"{case}, tok/s / bound (G={bound.groups})", measured / bound.rate, "x", ">=", FLOOR)
    if bound.saturated:
        report.check(f"{case}, busiest stage", max(shares), "x", ">=", FLOOR)
