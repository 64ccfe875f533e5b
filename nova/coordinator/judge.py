"""A plan held against what its group takes: where it is off, and whether another placement would be better. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nova.coordinator.planner import Planned, corrected, planned
from nova.plan.compare import Deviation, Measured, compare
from nova.plan.predict import Goal, predict, rate

GAIN = 0.05
"""Share of its rate that another placement must be predicted to gain: to form anew loads the model again."""


@dataclass(frozen=True)
class Judgement:
    """`better` gains the share `gain` of the goal's rate; None where nothing gains enough."""

    deviations: list[Deviation]
    better: Planned | None = None
    gain: float = 0.0

    @property
    def advice(self) -> str:
        """What is to be said of the better placement; "" without one."""
        if self.better is None:
            return ""
        layers = ", ".join(f"{node}: {count}" for node, count in self.better.placement)
        return f"by measured times {self.gain:.0%} more tokens per second are expected of another placement: {layers}"


def judge(present: Planned, measured: Measured) -> Judgement:
    """A plan that is met is left alone. Raises PlanError where another pipeline was measured, or nothing fits."""
    deviations = compare(present.report, measured)
    if not deviations:
        return Judgement([])
    question = corrected(present.question, present.placement, measured)
    again, goal = planned(question), _goal(present)
    reached = rate(predict(question, present.placement)[1], goal)
    gain = rate(again.report.prediction, goal) / reached - 1
    if again.placement == present.placement or gain <= GAIN:
        return Judgement(deviations)
    return Judgement(deviations, again, gain)


def _goal(present: Planned) -> Goal:
    """What the placement is to be good for; a rule's is what placements by rule are compared by."""
    from nova.plan.strategies import PREFERRED  # as in `planned`

    match present.report.objective:
        case "latency" | "throughput" | "speculative" as goal:
            return goal
        case _:
            return PREFERRED[present.question.workload.prefer]
