"""`nova sim` beside the run that it foretells, and how long it takes for a cluster that no machine here can be.

Emulated stages decode a closed loop as in the bench `microbatch`; the simulation has the same streams on the same
profile and split, with the links as VERIFY measured them, and is read in the same window of time. On a busy machine
stages wake up late, which no profile knows: beside it stands the simulation with the mean times of the run's own trace.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from statistics import mean

import msgspec

from benches.bounds import computed
from benches.report import Progress, Report, machine
from benches.streams import ENDLESS, decoding
from nova import paths
from nova.control.client import Client
from nova.coordinator.links import one_way_ns
from nova.coordinator.reach import HANDLING_S
from nova.local.cluster import ClusterPlan, running
from nova.plan.profiles import PREFIX, PROFILES
from nova.sim.load import Ask, Load, poisson
from nova.sim.pipeline import Line
from nova.sim.places import BYTES, emulated_line
from nova.sim.run import Simulation
from nova.sim.summary import tok_s_between
from nova.wire.requests import TraceReply

PROFILE = "m5dense"
PROMPT = 4
OFF = 0.03
"""Of the measured pace."""
NODES, REQUESTS, LIMIT_S = 1000, 1000, 60.0
PROMPTS, TOKENS = 512, 32
"""Of the large cluster: tokens of each request."""


@dataclass(frozen=True)
class Extent:
    """What is measured, and for how long each."""

    stages: tuple[int, ...] = (2, 3, 4)
    streams: tuple[int, ...] = (1, 4, 8)
    warm_s: float = 6.0
    window_s: float = 8.0


QUICK = Extent((2,), (1, 4), 3.0, 3.0)


def run(progress: Progress, quick: bool = False) -> Report:
    report = Report("sim", machine())
    asyncio.run(_beside(report, progress, QUICK if quick else Extent()))
    _large(report, progress)
    return report


async def _beside(report: Report, progress: Progress, extent: Extent) -> None:
    profile = PROFILES[PROFILE]
    for stages in extent.stages:
        plan = ClusterPlan(stages, PREFIX + PROFILE, profile.stages(stages), ["tcp"])
        async with running(plan, paths.home()) as cluster, cluster.client() as client:
            for streams in extent.streams:
                progress(f"{stages} stages, {streams} streams")
                measured, trace = await _measured(client, streams, extent)
                links = (await client.explain()).attempts[-1].links
                line = emulated_line(
                    profile, profile.stages(stages), [link.source for link in links],
                    [link.latency_s + HANDLING_S for link in links],
                    [profile.hidden * BYTES / link.bandwidth_bytes_s for link in links],
                )  # fmt: skip
                foretold = _foretold(line, streams, extent)
                case = f"{PROFILE} S={stages} B={streams}"
                report.measured(f"{case}, measured", "tok/s", [measured])
                report.measured(f"{case}, simulated", "tok/s", [foretold])
                report.check(f"{case}, simulated off by", abs(foretold / measured - 1), "x", "<=", OFF)
                late = _foretold(_as_traced(line, trace), streams, extent)
                report.check(f"{case}, with the run's own times off by", abs(late / measured - 1), "x", "<=", OFF)


def _as_traced(line: Line, trace: TraceReply) -> Line:
    """The same with each stage's mean seconds by rows, and each link's mean time, as the run had them; of sizes that it
    had not, with the profile's."""
    chunks = [chunk for chunk in trace.chunks if not chunk.prefill]
    seen: dict[int, list[list[float]]] = {}
    for chunk in chunks:
        seen.setdefault(len(chunk.rows), []).append(computed(chunk))
    means = {rows: [mean(stage) for stage in zip(*each, strict=True)] for rows, each in seen.items()}
    ways = [one_way_ns(chunk, trace.offsets_ns) for chunk in chunks]
    hops = [mean(way[rank] / 1e9 for way in ways if rank in way) for rank in range(len(line.nodes))]
    return replace(
        line, decode=lambda rows: means.get(rows) or line.decode(rows), latency_s=hops, transfer_s=[0.0] * len(hops)
    )


async def _measured(client: Client, streams: int, extent: Extent) -> tuple[float, TraceReply]:
    async with decoding(client, [[index] * PROMPT for index in range(streams)]) as loop:
        await loop.each(1)
        await loop.watch(extent.warm_s)
        window = await loop.watch(extent.window_s)
        rate = loop.rate(window)
    trace = await client.trace(loop.requests[0])
    chunks = [chunk for chunk in trace.chunks if window[0] <= chunk.done_ns - trace.offsets_ns[-1] <= window[1]]
    return rate, msgspec.structs.replace(trace, chunks=chunks)


def _foretold(line: Line, streams: int, extent: Extent) -> float:
    until = extent.warm_s + extent.window_s
    simulation = Simulation(lambda dead: line, Load([Ask(0.0, PROMPT, ENDLESS)] * streams))
    while simulation.now < until and simulation.step():
        pass
    return tok_s_between(simulation.served, extent.warm_s, until)


def _large(report: Report, progress: Progress) -> None:
    """Stages that differ by up to three times, all requests at once and at random."""
    draw = random.Random(NODES)
    position_s = [draw.uniform(0.5e-3, 1.5e-3) for _ in range(NODES)]

    def times(positions: int) -> list[float]:
        return [each * (1 + 0.05 * (positions - 1)) for each in position_s]

    line = Line([f"node-{node}" for node in range(NODES)], times, times, [1e-4] * NODES, [1e-6] * NODES)
    for what, rate in (("all at once", 0.0), ("ten in a second", 10.0)):
        progress(f"{NODES} nodes, {REQUESTS} requests, {what}")
        begun = time.monotonic()
        simulation = Simulation(lambda dead: line, Load(poisson(REQUESTS, rate, PROMPTS, TOKENS)))
        while simulation.step():
            pass
        took = time.monotonic() - begun
        assert sum(len(each.tokens) for each in simulation.served) == REQUESTS * TOKENS
        report.measured(f"{NODES} nodes, {REQUESTS} requests, {what}: chunks", "", [simulation.chunks])
        report.check(f"{NODES} nodes, {REQUESTS} requests, {what}", took, "s", "<", LIMIT_S)
