"""A prompt's pieces over the stages, against computing them one after the other: S C / (C + S - 1) at best.

Both times come from the same request: what its chunks computed, summed, and from the first chunk's sending to the
last one's landing. `flow` is what these very chunks would take without a pause between them: what is missing to the
ideal there is their unequal size, what is missing beyond it is the runtime's.
"""

from __future__ import annotations

import asyncio
import random
import statistics

from benches.bounds import Prefill, prefill
from benches.demo import folder, pinned
from benches.report import Progress, Report, machine
from benches.streams import whole
from nova import paths
from nova.control.client import Client
from nova.local.cluster import ClusterPlan, running
from nova.plan.profiles import PREFIX, PROFILES

TOKENS = 2048
PROFILE = "m5dense"
STAGES = (2, 3, 4)
EMULATED_ROUNDS, REAL_ROUNDS = 2, 5
EMULATED_FLOOR, REAL_FLOOR = 0.95, 0.90
REAL_SPLIT = [15, 15]
"""Of 30 layers: the head takes no part in a prompt."""


def run(progress: Progress, quick: bool = False) -> Report:
    return asyncio.run(_run(progress, quick))


async def _run(progress: Progress, quick: bool) -> Report:
    report = Report("prefill", machine())
    profile = PROFILES[PROFILE]
    for stages in STAGES[:1] if quick else STAGES:
        plan = ClusterPlan(stages, PREFIX + PROFILE, profile.stages(stages), ["tcp"])
        case = f"emulated {PROFILE} S={stages}"
        await _case(report, case, plan, 1 if quick else EMULATED_ROUNDS, EMULATED_FLOOR, progress)
    settings, cpus = pinned(2)
    plan = ClusterPlan(2, str(folder()), REAL_SPLIT, ["tcp"], settings, cpus)
    await _case(report, "demo model S=2", plan, 2 if quick else REAL_ROUNDS, REAL_FLOOR, progress)
    return report


async def _case(report: Report, case: str, plan: ClusterPlan, rounds: int, floor: float, progress: Progress) -> None:
    found: list[Prefill] = []
    async with running(plan, paths.home()) as cluster, cluster.client() as client:
        await _one(client, 0)  # both warm, and the scheduler has seen what chunks cost
        for number in range(rounds):
            progress(f"{case}, {TOKENS} tokens, round {number + 1} of {rounds}")
            found.append(await _one(client, 1 + number))
    report.measured(f"{case}, {TOKENS} tokens in {found[-1].chunks} chunks", "s", [each.wall for each in found])
    report.measured(f"{case}, over one chunk after the other", "x", [each.speedup for each in found])
    report.measured(f"{case}, flow of its own chunks / ideal", "x",
                    [each.compute / each.flow / each.ideal for each in found])  # fmt: skip
    report.measured(f"{case}, flow of its own chunks / wall", "x", [each.flow / each.wall for each in found])
    median = statistics.median(each.speedup / each.ideal for each in found)
    report.check(f"{case}, speed-up / (S C / (C + S - 1))", median, "x", ">=", floor)


async def _one(client: Client, seed: int) -> Prefill:
    draw = random.Random(seed)  # another text each time: none is found in a prefix cache
    done = await whole(client, [draw.randrange(1, 256) for _ in range(TOKENS + 1)], 1)
    trace = await client.trace(done.request)
    return prefill(trace.chunks, trace.streams[done.request])
