"""Two hundred HTTP clients for a minute, half of which hang up at random moments: what breaks, and what is left behind.

Intended refusals (429) are waited out. Memory is compared between the end of a first, shorter load and the end of the
last one, each after a pause, so that what the processes keep for good is in both.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from benches.bounds import gaps
from benches.demo import PROMPT, folder, pinned
from benches.http import client as http_client
from benches.http import events
from benches.report import Progress, Report, machine
from nova import paths
from nova.clock import Deadline
from nova.local.cluster import ClusterPlan, marked, running, setting

SEED = 20260516
CLIENTS, LOAD_S, WARM_S = 200, 60.0, 20.0
LEAST_TOKENS, MOST_TOKENS = 4, 16
MOST_WORDS = 8
LEAVES = 0.5
LEAVES_S = 3.0
PAUSE_S = 1.0
SETTLED_S, LOOK_S = 30.0, 0.2
KV_BYTES = 320 << 20
"""Of each node, for all caches. What is kept of requests that have ended fills its share of it in the first load, so
that it does not look like a leak in the second."""
GROWTH = 1.05
BUSY = 429


@dataclass
class Account:
    """What the clients of one load saw."""

    ended: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    arrivals: list[list[int]] = field(default_factory=list)


def run(progress: Progress, quick: bool = False) -> Report:
    return asyncio.run(_run(progress, (5.0, 5.0) if quick else (WARM_S, LOAD_S)))


async def _run(progress: Progress, loads_s: tuple[float, float]) -> Report:
    report = Report("churn", machine())
    settings, cpus = pinned(2)
    plan = ClusterPlan(
        2, str(folder()), transports=["tcp"],
        settings=[*settings, setting("api.listen", "127.0.0.1:0"), setting("engine.kv_bytes", KV_BYTES)],
        node_settings=cpus,
    )  # fmt: skip
    memory: list[int] = []
    async with running(plan, paths.home()) as cluster:
        for number, seconds in enumerate(loads_s):
            progress(f"{CLIENTS} clients for {seconds:g} s")
            async with http_client(cluster.api) as http:
                account = await _load(http, SEED + number, seconds)
                left = await _settled(http)
            memory.append(sum(_resident(process) for process in marked(cluster.folder.name)))
    _judge(report, account, left, memory)
    return report


def _judge(report: Report, account: Account, left: dict[str, float], memory: list[int]) -> None:
    between = gaps(account.arrivals, 0, 1 << 63)
    report.measured("between tokens", "ms", [each * 1e3 for each in between])
    for how, count in sorted(account.ended.items()):
        report.measured(f"requests that {how}", "", [count])
    report.measured("memory of all processes, before and after", "MiB", [each / (1 << 20) for each in memory])
    report.check("errors other than 429" + "".join(f"; {each}" for each in account.errors[:3]), len(account.errors),
                 "", "<=", 0)  # fmt: skip
    report.check("memory after / before", memory[-1] / memory[0], "x", "<=", GROWTH)
    for name, value in left.items():
        report.check(f"{name} at the end", value, "", "<=", 0)


async def _load(http: httpx.AsyncClient, seed: int, seconds: float) -> Account:
    account, deadline = Account(), Deadline.after(seconds)
    async with asyncio.TaskGroup() as group:
        for index in range(CLIENTS):
            group.create_task(_client(http, random.Random(f"{seed}/{index}"), deadline, account))
    return account


async def _client(http: httpx.AsyncClient, draw: random.Random, deadline: Deadline, account: Account) -> None:
    """One request after the other until the deadline, at which everybody hangs up."""
    while not deadline.expired:
        leaves_s = draw.uniform(0.0, LEAVES_S) if draw.random() < LEAVES else math.inf
        words = " ".join(f"word{draw.randrange(1000)}" for _ in range(draw.randrange(1, MOST_WORDS)))
        body = {
            "prompt": f"{words} {PROMPT}", "max_tokens": draw.randrange(LEAST_TOKENS, MOST_TOKENS),
            "temperature": draw.choice([0.0, 0.8]), "seed": draw.randrange(1 << 30),
        }  # fmt: skip
        arrivals: list[int] = []
        account.arrivals.append(arrivals)
        try:
            async with asyncio.timeout(min(leaves_s, deadline.remaining())):
                pause_s = await _ask(http, body, arrivals, account)
        except TimeoutError:
            account.ended["hung up"] += 1
            continue
        except httpx.HTTPError as error:
            account.errors.append(f"{type(error).__name__}: {error}")
            continue
        if pause_s:
            await asyncio.sleep(min(pause_s, PAUSE_S) * draw.uniform(0.5, 1.0))


async def _ask(http: httpx.AsyncClient, body: dict[str, object], arrivals: list[int], account: Account) -> float:
    """One request to its end. How long the server wants to be left alone."""
    async with aclosing(events(http, body)) as answers:
        async for answer in answers:
            arrivals[:] = answer.arrivals
    if answer.status == BUSY:
        account.ended["were refused with 429"] += 1
        return answer.retry_after_s or PAUSE_S
    if answer.error or not answer.finish:
        account.errors.append(f"{answer.status}: {answer.error or 'the stream ended without a finish_reason'}"[:200])
    account.ended["were answered"] += 1
    return 0.0


async def _settled(http: httpx.AsyncClient) -> dict[str, float]:
    """What is still in use once nothing is asked any more; waits for it to become nothing."""
    deadline = Deadline.after(SETTLED_S)
    while True:
        response = await http.get("/metrics")
        families = text_string_to_metric_families(response.raise_for_status().text)
        samples = [sample for family in families for sample in family.samples]
        left = {
            "requests running": _sum(samples, "nova_requests_running"),
            "requests waiting": _sum(samples, "nova_requests_waiting"),
            "KV memory reserved": _sum(samples, "nova_kv_cache_usage_ratio"),
        }
        if not any(left.values()) or deadline.expired:
            return left
        await asyncio.sleep(LOOK_S)


def _sum(samples: list[Sample], name: str) -> float:
    """Over all labels. Raises RuntimeError where the server does not measure it: nothing would be 0 as well."""
    values = [sample.value for sample in samples if sample.name == name]
    if not values:
        raise RuntimeError(f"/metrics has no {name}")
    return sum(values)


def _resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)
