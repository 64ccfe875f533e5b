"""What runs on the nodes that are left: emulated stages, or a plan. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nova.errors import PlanError
from nova.plan.profiles import Profile
from nova.plan.split import ranges
from nova.sim.pipeline import Line

BYTES = 2
"""Of a bfloat16 hidden value."""


def emulated(
    profile: Profile, nodes: Sequence[str], latency_s: float, bandwidth_bytes_s: float
) -> Callable[[frozenset[str]], Line]:
    """As even as can be over those of the nodes that live, in their order. `bandwidth_bytes_s` may be infinite."""

    def place(dead: frozenset[str]) -> Line:
        alive = [node for node in nodes if node not in dead]
        if not alive:
            raise PlanError(f"all {len(nodes)} nodes have died, so nobody can go on")
        split = profile.stages(len(alive))
        if len(split) != len(alive):
            raise PlanError(
                f"emulated:{profile.name} has times for {len(split)} stages only, and {len(alive)} nodes are there: "
                "choose a profile that divides, as m5dense does"
            )
        position_s = [profile.position_ms(*span) / 1e3 for span in ranges(split)]

        def times(positions: int) -> list[float]:
            return [each * profile.width_factor(positions) for each in position_s]

        transfer = profile.hidden * BYTES / bandwidth_bytes_s
        return Line(alive, times, times, [latency_s] * len(alive), [transfer] * len(alive))

    return place
