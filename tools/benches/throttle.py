"""Four streams that decode while a long prompt arrives: the time between their tokens, beside that without it.

Once with emulated stages, once with the demo model over two nodes with one core each.
"""

from __future__ import annotations

import asyncio
import random

from benches.demo import folder, pinned
from benches.report import Progress, Report, machine, p99
from benches.streams import LOOK_S, decoding
from nova import paths
from nova.local.cluster import ClusterPlan, running
from nova.plan.profiles import PREFIX, PROFILES

STREAMS = 4
EMULATED_TOKENS, REAL_TOKENS = 4096, 1024
"""Of the prompt. The pieces are equally long in a shorter one, and a core of a small machine takes minutes for more."""
PROFILE = "m5dense"
WARM_TOKENS, WARM_S, BEFORE_S = 8, 10.0, 10.0
FACTOR = 2.0


def run(progress: Progress, quick: bool = False) -> Report:
    return asyncio.run(_run(progress, 8 if quick else 1))


async def _run(progress: Progress, divisor: int) -> Report:
    report = Report("throttle", machine())
    emulated = ClusterPlan(2, PREFIX + PROFILE, PROFILES[PROFILE].stages(2), ["tcp"])
    settings, cpus = pinned(2)
    real = ClusterPlan(2, str(folder()), [15, 15], ["tcp"], settings, cpus)
    for name, plan, whole in ((f"emulated {PROFILE}", emulated, EMULATED_TOKENS), ("demo model", real, REAL_TOKENS)):
        tokens = whole // divisor
        progress(f"{name}, a prompt of {tokens} tokens beside {STREAMS} streams")
        await _case(report, name, plan, tokens)
    return report


async def _case(report: Report, name: str, plan: ClusterPlan, tokens: int) -> None:
    draw = random.Random(tokens)
    prompts = [[draw.randrange(1, 256) for _ in range(length)] for length in (8, 24, 40, 56)]
    async with (
        running(plan, paths.home()) as cluster,
        cluster.client() as client,
        decoding(client, prompts) as loop,
    ):
        await loop.each(WARM_TOKENS)
        await loop.watch(WARM_S)
        alone = await loop.watch(BEFORE_S)
        loop.add([draw.randrange(1, 256) for _ in range(tokens)], 1 + WARM_TOKENS)
        while not loop.arrivals[STREAMS]:
            await loop.watch(LOOK_S)  # ends with the request's own deadline
        window = alone[1], loop.arrivals[STREAMS][0]
        before, during = (loop.gaps(span, range(STREAMS)) for span in (alone, window))
    report.measured(f"{name}, between tokens", "ms", [each * 1e3 for each in before])
    report.measured(f"{name}, between tokens while the prompt arrives", "ms", [each * 1e3 for each in during])
    report.measured(f"{name}, {tokens} tokens to the first one", "s", [(window[1] - window[0]) / 1e9])
    report.check(f"{name}, p99 between tokens while the prompt arrives / without", p99(during) / p99(before), "x",
                 "<=", FACTOR)  # fmt: skip
