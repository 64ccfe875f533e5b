"""Placements on paper for the tests."""

from __future__ import annotations

from collections.abc import Sequence

from nova.errors import PlanError
from nova.sim.load import Fault, Load
from nova.sim.pipeline import Line, Placement
from nova.sim.run import Simulation

MOST_STEPS = 100_000


def line(seconds: Sequence[float], slope: float = 0.0, hop: float = 0.0, transfer: float = 0.0) -> Line:
    """Stages that take so many seconds for one position, and `slope` of that more for each further one."""

    def times(positions: int) -> list[float]:
        return [each * (1 + slope * (positions - 1)) for each in seconds]

    count = len(seconds)
    return Line([f"n{stage}" for stage in range(count)], times, times, [hop] * count, [transfer] * count)


def always(one: Line) -> Placement:
    return lambda dead: one


def survivors(seconds: Sequence[float], slope: float = 0.0) -> Placement:
    """The stages of the dead are left out: the others are as fast as they were."""
    whole = line(seconds, slope)

    def place(dead: frozenset[str]) -> Line:
        left = [(name, each) for name, each in zip(whole.nodes, seconds, strict=True) if name not in dead]
        if not left:
            raise PlanError("nobody is left")
        one = line([each for _, each in left], slope)
        return Line([name for name, _ in left], one.decode, one.prefill, one.latency_s, one.transfer_s)

    return place


def ran(place: Placement, load: Load, faults: Sequence[Fault] = (), pause_s: float = 0.0) -> Simulation:
    simulation = Simulation(place, load, faults, pause_s)
    for _ in range(MOST_STEPS):
        if not simulation.step():
            return simulation
    raise AssertionError(f"{MOST_STEPS} steps were not enough")
