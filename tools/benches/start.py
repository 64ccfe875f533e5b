"""How long a second start takes before the model loads: set-up with nothing to do, daemons, and a formed group."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

from benches.demo import folder
from benches.report import Progress, Report, machine
from nova import paths
from nova.local.cluster import ClusterPlan, running
from nova.wire import phases

ROUNDS = 5
LOOK_S = 0.02
LOADING = (phases.LOAD, phases.READY)


def run(progress: Progress) -> Report:
    report = Report("start", machine())
    progress("setting up, so that there is nothing left to do")
    _setup()
    setups, starts = [], []
    for number in range(ROUNDS):
        progress(f"start {number + 1} of {ROUNDS}")
        setups.append(_setup())
        starts.append(asyncio.run(_start()))
    report.measured("tools/setup with nothing to do", "s", setups)
    report.measured("two nodes, until their engines load", "s", starts)
    worst = max(a + b for a, b in zip(setups, starts, strict=True))
    report.check("second start until the model loads, worst", worst, "s", "<", 5.0)
    return report


def _setup() -> float:
    begun = time.perf_counter()
    subprocess.run([Path(__file__).parents[1] / "setup"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


async def _start() -> float:
    begun = time.perf_counter()
    async with running(ClusterPlan(2, str(folder())), paths.home()) as cluster, cluster.client() as client:
        while True:
            engines = (await client.status()).engines
            if engines and all(engine.phase in LOADING for engine in engines):
                return time.perf_counter() - begun
            await asyncio.sleep(LOOK_S)
