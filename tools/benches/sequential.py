"""What splitting a model costs one stream: two nodes with one core each, beside mlx_lm in one process on one core.

The same BLAS with one thread, the same model, the same prompt, taken in turn. And, with emulated stages (a timed
wait in place of the arithmetic), the fraction that is reached of the bound 1 / (sum of the stages).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise

from benches.demo import PROMPT, cores, folder, pinned
from benches.reference import Reference
from benches.report import Progress, Report, machine
from nova import paths
from nova.control.client import Client
from nova.ids import new_request_id
from nova.local.cluster import ClusterPlan, running
from nova.node.blas import choose
from nova.plan.profiles import PROFILES
from nova.wire.requests import Completed, Generate, Piece
from nova.wire.work import Sampling

SPLIT = [16, 14]
"""Of 30 layers; the last stage has the head too, which weighs as much as eight layers and runs once a token."""

ROUNDS, TOKENS = 9, 24
EMULATED_TOKENS = 60


def run(progress: Progress) -> Report:
    return asyncio.run(_run(progress))


async def _run(progress: Progress) -> Report:
    report = Report("sequential", machine())
    await _real(report, progress)
    await _emulated(report, progress)
    return report


async def _real(report: Report, progress: Progress) -> None:
    settings, cpus = pinned(2)
    plan = ClusterPlan(2, str(folder()), SPLIT, ["tcp"], settings, cpus)
    alone = Reference(folder(), PROMPT, choose("auto"), 1, cores()[:1])
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    try:
        async with running(plan, paths.home()) as cluster, cluster.client() as client:
            await _generate(client, 4)  # both warm
            alone.generate(4)
            for number in range(ROUNDS):
                progress(f"two nodes beside mlx_lm, round {number + 1} of {ROUNDS}")
                # Each second round goes backwards, so that nobody is always measured after the other.
                for turn in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
                    if turn == "ours":
                        ours.append((await _generate(client, TOKENS))[0])
                    else:
                        theirs.append((await asyncio.to_thread(alone.generate, TOKENS))[1])
    finally:
        alone.close()
    _rows(report, "mlx_lm, one process, one core", theirs)
    _rows(report, "two nodes, one core each", ours)
    quotients = [statistics.median(b) / statistics.median(a) for a, b in zip(ours, theirs, strict=True)]
    report.measured("two nodes / mlx_lm, tok/s", "x", quotients)
    report.check("two nodes / mlx_lm, tok/s", statistics.median(quotients), "x", ">=", 0.97)


async def _emulated(report: Report, progress: Progress) -> None:
    progress("emulated stages")
    profile = PROFILES["seed"]
    plan = ClusterPlan(2, "emulated:seed", transports=["tcp"])
    async with running(plan, paths.home()) as cluster, cluster.client() as client:
        between, done = await _generate(client, EMULATED_TOKENS)
    bound = 1000.0 / sum(profile.stage_ms)
    _rows(report, "emulated:seed", [between])
    for row in done.breakdown:
        report.measured(f"emulated:seed, {row.name}", "ms", [row.ms])
    report.check("emulated:seed tok/s / bound", done.decode_tok_s / bound, "x", ">=", 0.98)


async def _generate(client: Client, tokens: int) -> tuple[list[float], Completed]:
    """Seconds between tokens as the client sees them, and the account."""
    times: list[float] = []
    async for event in client.generate(Generate(new_request_id(), PROMPT, tokens, Sampling(), deadline_s=300.0)):
        if isinstance(event, Piece):
            times.append(time.perf_counter())
        elif isinstance(event, Completed):
            return [after - before for before, after in pairwise(times)], event
    raise RuntimeError("the generation ended without its account")


def _rows(report: Report, name: str, rounds: Sequence[Sequence[float]]) -> None:
    report.measured(name, "tok/s", [1.0 / each for samples in rounds for each in samples])
