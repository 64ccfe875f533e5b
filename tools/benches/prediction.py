"""What the planner predicts beside what is measured: emulated deployments, and the demo model on unequal machines.

The two machines are a lab's, with one core in whole and two fifths of one. Each deployment plans for itself from what
its nodes have measured of the model; then one stream decodes, and its pace is laid beside the plan's. `auto` is
compared with an even split, in turns.
"""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass
from typing import Any

from lablib import quota
from lablib.cluster import LabCluster, cluster
from lablib.lab import Lab
from lablib.life import lab

from benches.demo import PROMPT, folder
from benches.report import Progress, Report, machine
from nova import paths
from nova.ids import new_request_id
from nova.local.cluster import ClusterPlan, running, setting
from nova.plan.profiles import PREFIX
from nova.wire.requests import Completed, Generate
from nova.wire.work import Sampling

EMULATED_FLOOR, REAL_FLOOR, GAIN_FLOOR = 0.03, 0.10, 1.3
CPU = (100, 40)
"""Percent of a core."""
EMULATED_TOKENS, TOKENS, WARM_TOKENS = 40, 64, 8
ROUNDS = 3
READY_S, GENERATE_S = 90.0, 120.0


@dataclass(frozen=True)
class Case:
    """An emulated deployment: the profile, the number of nodes, and the strategy."""

    profile: str
    nodes: int
    strategy: str


EMULATED = (Case("m5dense", 2, "memory"), Case("m5dense", 3, "memory"), Case("moe", 2, "latency"))


def run(progress: Progress, quick: bool = False) -> Report:
    report = Report("prediction", machine())
    for case in EMULATED[:1] if quick else EMULATED:
        progress(f"{case.profile} on {case.nodes} nodes, strategy {case.strategy}")
        predicted, measured = asyncio.run(_emulated(case))
        name = f"emulated {case.profile} S={case.nodes} {case.strategy}"
        _judge(report, name, predicted, [measured], EMULATED_FLOOR)
    if quota.find() is None:
        progress("no CPU quotas on this machine: the demo model on unequal machines is left out")
        return report
    found: dict[str, list[tuple[float, float]]] = {"auto": [], "memory": []}
    for number in range(1 if quick else ROUNDS):
        for strategy in list(found)[:: 1 if number % 2 == 0 else -1]:
            progress(f"demo model, strategy {strategy}, round {number + 1}")
            found[strategy].append(_real(strategy))
    for strategy, pairs in found.items():
        name = f"demo model on {CPU[0]} % and {CPU[1]} % of a core, {strategy}"
        _judge(report, name, pairs[0][0], [measured for _, measured in pairs], REAL_FLOOR)
    gain = statistics.median(a / b for (_, a), (_, b) in zip(found["auto"], found["memory"], strict=True))
    report.check("demo model, auto / even split", gain, "x", ">=", GAIN_FLOOR)
    return report


def _judge(report: Report, name: str, predicted: float, measured: list[float], floor: float) -> None:
    report.measured(f"{name}, predicted", "tok/s", [predicted])
    report.measured(f"{name}, measured", "tok/s", measured)
    off = abs(statistics.median(measured) / predicted - 1)
    report.check(f"{name}, measured / predicted is off by", off, "", "<=", floor)


async def _emulated(case: Case) -> tuple[float, float]:
    """Tokens per second of one stream: predicted and measured."""
    strategy = setting("plan.strategy", case.strategy)
    plan = ClusterPlan(case.nodes, PREFIX + case.profile, transports=["tcp"], settings=[strategy])
    async with running(plan, paths.home()) as found, found.client() as client:
        async for event in client.generate(
            Generate(new_request_id(), PROMPT, EMULATED_TOKENS, Sampling(), deadline_s=GENERATE_S)
        ):
            if isinstance(event, Completed):
                status = await client.status()
                assert status.plan is not None
                return status.plan.prediction.tok_s, event.decode_tok_s
    raise RuntimeError("the generation ended without its account")


def _real(strategy: str) -> tuple[float, float]:
    """The same for the demo model on the lab's unequal machines."""
    with lab(len(CPU), cpu=CPU) as found:
        settings = [
            setting("deployment.model", str(folder())),
            setting("deployment.nodes", found.hosts),
            setting("plan.strategy", strategy),
            setting("transport.order", ["tcp"]),
        ]
        return _paces(found, settings)


def _paces(found: Lab, settings: list[str]) -> tuple[float, float]:
    with cluster(found, settings) as nodes:
        _generate(nodes, WARM_TOKENS, READY_S)
        measured = _generate(nodes, TOKENS, GENERATE_S)
        return float(nodes.asked("status")["plan"]["prediction"]["tok_s"]), float(measured["decode_tok_s"])


def _generate(nodes: LabCluster, tokens: int, limit_s: float) -> dict[str, Any]:
    return nodes.asked("generate", "--prompt", PROMPT, "--max-tokens", str(tokens), limit_s=limit_s)
