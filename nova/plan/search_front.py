"""Objectives of two figures, by a search that minimises one of them under a limit on the other. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from math import inf

from nova.plan.search_instance import Objective, Placement

EXACT = 1e-9
"""Share below which two values are the same."""
ENDLESS = 1e6
"""Times anything found, beyond which totals are taken not to count."""
HALVINGS = 40

Least = Callable[[float, float], tuple[float, Placement | None]]
"""Of a limit in seconds and a total: no placement without a longer stage or hop has a lower total than the first of the
results, or only ones above the given total; the second is one of them, or None. An exact search gives one with that
total."""


def minimise(
    least: Least, objective: Objective, limits: Sequence[float], steps: int, floors: Sequence[float] = ()
) -> Placement | None:
    """The placement with the least value, and how far from proven that is; None where `least` finds none at all.

    `limits` rise. A placement whose slowest stage or hop is within a limit but not the one before has it at `floors` of
    that limit or above; without them limits are all the times that there are, and floors themselves. An interval
    of limits can hold nothing better than the objective of the least total at its upper end and the limit at its lower
    one; the most promising interval is halved until none is better than what is found, at most `steps` times.
    """
    floors = floors or limits
    bound, best = least(limits[-1], inf)
    if best is None:
        return None
    value = objective(best.total_s, best.slowest_s)
    lowest = objective(bound, floors[0])
    left = [(lowest, 0, len(limits) - 1, len(limits) - 1, bound)]
    """(the least it may hold, first and last limit, the limit that the bound is of, the least total up to that)."""
    for _ in range(steps):
        lowest, first, last, known, bound = left[0]
        if lowest >= value * (1 - EXACT) or first == known:
            break
        if last == known and objective(bound, floors[last]) <= lowest:
            break  # halving would leave the upper half as it is
        heappop(left)
        last = _worth(objective, bound, floors, first, last, value)
        middle = max(bisect_right(limits, (limits[first] + limits[last]) / 2, first, last) - 1, first)
        total, found = least(limits[middle], _most(objective, floors[first], bound, value))
        if found is not None and objective(found.total_s, found.slowest_s) < value:
            best, value = found, objective(found.total_s, found.slowest_s)
        heappush(left, (objective(total, floors[first]), first, middle, middle, total))
        if middle < last:
            heappush(left, (objective(bound, floors[middle + 1]), middle + 1, last, known, bound))
    lowest = left[0][0]
    return replace(best, gap=float(value / lowest - 1) if 0 < lowest < value * (1 - EXACT) else 0.0)


def _worth(objective: Objective, bound: float, floors: Sequence[float], first: int, last: int, value: float) -> int:
    """The last floor at which this total would still be better than `value`; the first one is."""
    return bisect_left(floors, True, first, last + 1, key=lambda floor: objective(bound, floor) >= value) - 1


def _most(objective: Objective, slowest: float, total: float, value: float) -> float:
    """A total from which on, with such a slowest stage, nothing is better than `value`, barely above the last one that
    is; `total` is. inf where totals do not count."""
    step = max(total, value)
    while objective(total + step, slowest) < value:
        if step > ENDLESS * max(total, value):
            return inf
        step *= 2
    for _ in range(HALVINGS):
        step /= 2
        if objective(total + step, slowest) < value:
            total += step
    return total + step
