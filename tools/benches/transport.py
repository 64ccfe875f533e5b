"""A tensor there and back between two processes over each transport, beside the same bytes moved bare.

Ours carries the tensor header and keeps deadlines, lengths and the proof of identity; the bare contenders move
the payload and nothing else. Like is held against like: CURVE against CURVE, plain against plain.
"""

from __future__ import annotations

import statistics
from functools import partial
from itertools import chain

from benches.pingpong import Far
from benches.report import Progress, Report, interleaved, machine, ratio

SMALL, BIG = 16 << 10, 64 << 20
PAIRS = {"tcp": "socket", "zmq": "pair-curve", "zmq-plain": "pair"}
SMALL_ROUNDS, SMALL_TRIPS = 31, 100
BIG_ROUNDS = 5


def run(progress: Progress) -> Report:
    report = Report("transport", machine())
    small: dict[str, list[list[float]]] = {}
    big: dict[str, list[list[float]]] = {}
    far = Far()
    try:
        # Pair by pair: what is compared is measured in turn, with nothing of another kind in between.
        for pair in PAIRS.items():
            for size, rounds, trips, taken in ((SMALL, SMALL_ROUNDS, SMALL_TRIPS, small), (BIG, BIG_ROUNDS, 1, big)):
                turns = {name: partial(far.round_trips, name, size, trips) for name in pair}
                what = f"{pair[0]} beside {pair[1]}, {size >> 10} KiB"
                taken.update(interleaved(turns, rounds, lambda number, what=what: progress(f"{what}, {number}")))  # type: ignore[misc]
    finally:
        far.close()
    for name in small:
        report.measured(f"{name} 16 KiB there and back", "us", [each * 1e6 for each in chain(*small[name])])
    for name in big:
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
