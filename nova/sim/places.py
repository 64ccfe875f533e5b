"""What runs on the nodes that are left: emulated stages, or a plan. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from nova.errors import PlanError
from nova.plan.costmodel import CostModel, Split, spans
from nova.plan.inputs import Question
from nova.plan.profiles import Profile
from nova.plan.split import ranges
from nova.plan.strategies import plan
from nova.sim.pipeline import Line, Placement

BYTES = 2
"""Of a bfloat16 hidden value."""


def emulated(profile: Profile, nodes: Sequence[str], latency_s: float, bandwidth_bytes_s: float) -> Placement:
    """As even as can be over those of the nodes that live, in their order. All links are alike."""

    def place(dead: frozenset[str]) -> Line:
        alive = [node for node in nodes if node not in dead]
        if not alive:
            raise PlanError("every node has died, so nobody can go on: let one live")
        split = profile.stages(len(alive))
        if len(split) != len(alive):
            raise PlanError(
                f"emulated:{profile.name} has times for {len(split)} stages only, and {len(alive)} nodes are there: "
                "choose a profile that divides, as m5dense does"
            )
        count, transfer = len(alive), profile.hidden * BYTES / bandwidth_bytes_s
        return emulated_line(profile, split, alive, [latency_s] * count, [transfer] * count)

    return place


def emulated_line(
    profile: Profile,
    split: Sequence[int],
    nodes: Sequence[str],
    latency_s: Sequence[float],
    transfer_s: Sequence[float],
) -> Line:
    """The stages of a profile in that split, as `nova.engine.emulated` times them."""
    position_s = [profile.position_ms(*span) / 1e3 for span in ranges(split)]

    def times(positions: int) -> list[float]:
        return [each * profile.width_factor(positions) for each in position_s]

    return Line(nodes, times, times, latency_s, transfer_s)


def planned(question: Question) -> Placement:
    """As the question's strategy has it, each time without the dead."""

    def place(dead: frozenset[str]) -> Line:
        excluded = question.excluded | dict.fromkeys(sorted(dead), "it has died")
        asked = replace(question, excluded=excluded, pinned=question.pinned - dead)
        return planned_line(CostModel(asked), [(stage.node, stage.layers) for stage in plan(asked).stages])

    return place


def planned_line(cost: CostModel, split: Split) -> Line:
    """A placement with the seconds that a plan has for it."""
    places, names = spans(split), [name for name, _ in split]

    def decode(rows: int) -> list[float]:
        return [cost.stage_s(name, *span, rows, rows) for name, span in places]

    def prefill(tokens: int) -> list[float]:
        return [cost.stage_s(name, *span, tokens, 0) for name, span in places]

    latency = [cost.hop_s(a, b, 0) for a, b in pairwise(names)]
    transfer = [cost.hop_s(a, b, 1) - alone for (a, b), alone in zip(pairwise(names), latency, strict=True)]
    return Line(names, decode, prefill, [*latency, cost.back_s(names[-1], names[0])], [*transfer, 0.0])
