"""A tensor there and back between two processes over each transport, beside the same bytes moved bare.

Ours carries the tensor header and keeps deadlines, lengths and the proof of identity; the bare contenders move
the payload and nothing else. Like is held against like: CURVE against CURVE, plain against plain.
"""

from __future__ import annotations

import statistics
from itertools import chain

from benches.pingpong import CONTENDERS, Far
from benches.report import Progress, Report, interleaved, machine, ratio

SMALL, BIG = 16 << 10, 64 << 20
PAIRS = {"tcp": "socket", "zmq": "pair-curve", "zmq-plain": "pair"}
SMALL_ROUNDS, SMALL_TRIPS = 24, 100
BIG_ROUNDS, BIG_TRIPS = 5, 1


def run(progress: Progress) -> Report:
    report = Report("transport", machine())
    far = Far()
    try:
        small = interleaved(
            {name: lambda name=name: far.round_trips(name, SMALL, SMALL_TRIPS) for name in CONTENDERS},  # type: ignore[misc]
            SMALL_ROUNDS,
            lambda what: progress(f"16 KiB, {what}"),
        )
        big = interleaved(
            {name: lambda name=name: far.round_trips(name, BIG, BIG_TRIPS) for name in CONTENDERS},  # type: ignore[misc]
            BIG_ROUNDS,
            lambda what: progress(f"64 MiB, {what}"),
        )
    finally:
        far.close()
    for name in CONTENDERS:
        report.measured(f"{name} 16 KiB there and back", "us", [each * 1e6 for each in chain(*small[name])])
    for name in CONTENDERS:
        report.measured(f"{name} 64 MiB bandwidth", "GB/s", [2 * BIG / each / 1e9 for each in chain(*big[name])])
    for ours, bare in PAIRS.items():
        times = ratio(small[ours], small[bare])
        report.check(f"{ours} 16 KiB there and back / bare {bare}", times, "x", "<=", 1.3)
    for ours in PAIRS:
        median = statistics.median(chain(*small[ours])) * 1e3
        report.check(f"{ours} 16 KiB there and back", median, "ms", "<", 0.3)
    for ours, bare in PAIRS.items():
        report.check(f"{ours} 64 MiB bandwidth / bare {bare}", ratio(big[bare], big[ours]), "x", ">=", 0.8)
    return report
