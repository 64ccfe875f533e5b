"""The demo model over two nodes with one core each: what 2 and 8 streams give over one, and beside `mlx_lm.server`.

Streams are compared in a steady window of their decoding; the bound is the best division into micro-batches, from the
times that the stages took in this very run. Beside `mlx_lm.server` - one process on both cores, its own batching, the
same BLAS - whole requests over HTTP are compared, from the first byte sent to the last one received.

The BLAS is OpenBLAS unless another one is asked for. With BLIS everything is faster (`--blas blis`), one stream the
most: eight have 4.8 times its tokens per second then, which is all that stage times of 27 ms for one row and 46 ms for
four allow; and Nova is further ahead of `mlx_lm.server`.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time

from benches.bounds import busy, decode_times, measured_best, rate
from benches.demo import PROMPT, cores, folder, pinned
from benches.http import client as http_client
from benches.http import completion
from benches.mlxserver import serving
from benches.report import Progress, Report, machine
from benches.streams import decoding
from nova import paths
from nova.control.client import Client
from nova.local.cluster import ClusterPlan, running, setting
from nova.wire.work import ChunkTiming

SPLIT = [18, 12]
"""Of 30 layers; the last stage has the head too, which weighs as much as eight layers."""
COUNTS = (1, 2, 8)
FLOORS = {2: 1.7, 8: 5.0}
BOUND_FLOOR = 0.90
WARM_TOKENS, WARM_S, WINDOW_S = 3, 1.0, 5.0
HTTP_STREAMS, HTTP_TOKENS = 8, 64
ROUNDS = 5


def prompts(first: int, count: int) -> list[str]:
    """Of 15 to some 100 tokens. Each begins with a number of its own, so that none is found in a prefix cache."""
    return [f"{first + index}. {PROMPT}" + " there lived an old woman." * (2 * index) for index in range(count)]


def run(progress: Progress, quick: bool = False, blas: str = "openblas") -> Report:
    return asyncio.run(_run(progress, 2 if quick else ROUNDS, blas))


async def _run(progress: Progress, rounds: int, blas: str) -> Report:
    report = Report("serve", machine())
    settings, cpus = pinned(2)
    plan = ClusterPlan(
        2, str(folder()), SPLIT, ["tcp"],
        [*settings, setting("api.listen", "127.0.0.1:0"), setting("engine.cpu_blas", blas)], cpus,
    )  # fmt: skip
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    shares: dict[int, list[float]] = {count: [] for count in COUNTS}
    chunks: dict[int, list[ChunkTiming]] = {count: [] for count in COUNTS}
    http: dict[str, list[tuple[float, float]]] = {"Nova": [], "mlx_lm.server": []}
    async with (
        running(plan, paths.home()) as cluster,
        cluster.client() as client,
        serving(folder(), len(cores()) or 2, blas) as theirs,
    ):
        addresses = {"Nova": cluster.api, "mlx_lm.server": theirs}
        fresh = itertools.count(1, max(COUNTS))
        for number in range(-1, rounds):
            progress(f"round {number + 1} of {rounds}, the first to warm up")
            for count in COUNTS if number % 2 == 0 else COUNTS[::-1]:
                pace, share, seen = await _streams(client, prompts(next(fresh), count))
                if number >= 0:
                    rates[count].append(pace)
                    shares[count].append(share)
                    chunks[count] += seen
            for name in list(addresses) if number % 2 == 0 else list(addresses)[::-1]:
                paces = await _requests(addresses[name], prompts(next(fresh), HTTP_STREAMS))
                if number >= 0:
                    http[name].append(paces)
    for count in COUNTS:
        _judge(report, count, rates, shares[count], chunks[count])
    for index, what in enumerate(("over HTTP", "over HTTP, while all are continued")):
        for name, found in http.items():
            report.measured(f"{HTTP_STREAMS} requests {what}, {name}", "tok/s", [paces[index] for paces in found])
    both = zip(http["Nova"], http["mlx_lm.server"], strict=True)
    beside = statistics.median(ours[0] / bare[0] for ours, bare in both)
    report.check(f"{HTTP_STREAMS} requests over HTTP, Nova / mlx_lm.server", beside, "x", ">=", 1.0)
    return report


def _judge(
    report: Report, count: int, rates: dict[int, list[float]], shares: list[float], chunks: list[ChunkTiming]
) -> None:
    report.measured(f"{count} streams", "tok/s", rates[count])
    report.measured(f"{count} streams, busiest stage", "%", [share * 100 for share in shares])
    times = decode_times(chunks)
    for rows, stages in times.items():
        each = " + ".join(f"{seconds * 1e3:.1f}" for seconds in stages)
        report.measured(f"{count} streams, a chunk of {rows}: {each}", "ms", [sum(stages) * 1e3])
    bound = measured_best(times, count)
    median = statistics.median(rates[count])
    report.check(f"{count} streams, tok/s / bound (G={bound.groups})", median / bound.rate, "x", ">=", BOUND_FLOOR)
    if count in FLOORS:
        gain = statistics.median(a / b for a, b in zip(rates[count], rates[1], strict=True))
        report.check(f"{count} streams / 1 stream, tok/s", gain, "x", ">=", FLOORS[count])


async def _streams(client: Client, asked: list[str]) -> tuple[float, float, list[ChunkTiming]]:
    """Tokens per second, the share of the time that the busiest stage computes, and the chunks of that time."""
    async with decoding(client, asked) as loop:
        await loop.each(WARM_TOKENS)
        await loop.watch(WARM_S)
        window = await loop.watch(WINDOW_S)
        await loop.watch(WINDOW_S / 10)  # so that what was under way at the end has landed
    trace = await client.trace(loop.requests[0])
    shares = busy(trace.chunks, trace.offsets_ns, *window)
    offset = trace.offsets_ns[-1]
    inside = [chunk for chunk in trace.chunks if window[0] <= chunk.done_ns - offset <= window[1]]
    return loop.rate(window), max(shares), inside


async def _requests(address: str, asked: list[str]) -> tuple[float, float]:
    """Tokens per second of these prompts at once: from the first byte sent to the last one received, and while all of
    them were being continued."""
    async with http_client(address) as http:
        begun = time.perf_counter()
        bodies = [{"prompt": prompt, "max_tokens": HTTP_TOKENS, "temperature": 0.0} for prompt in asked]
        answers = await asyncio.gather(*(completion(http, body) for body in bodies))
        took = time.perf_counter() - begun
    tokens = sum(answer.tokens for answer in answers)
    arrivals = [answer.arrivals for answer in answers]
    # Not every token brings text of its own: the pace of the events is scaled to that of the tokens.
    each = tokens / sum(map(len, arrivals))
    together = max(times[0] for times in arrivals), min(times[-1] for times in arrivals)
    return tokens / took, each * rate(arrivals, *together)
