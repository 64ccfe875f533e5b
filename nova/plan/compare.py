"""A plan beside what its pipeline really took, and profiles corrected by the difference. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from nova.errors import PlanError
from nova.wire.plans import LinkProfile, NodeProfile, PlanReport

TOLERANCE = 0.1
"""Share by which a stage or hop may miss its prediction."""
NOTICEABLE = 0.01
"""Share of the predicted token: what differs by less does not matter, as a hop of 50 us that takes 80."""
SOURCE = "measured while running"


@dataclass(frozen=True)
class Measured:
    """Median seconds of decode chunks of one row: of each stage, and of each hop to the next stage, from the last back
    to the first (for one stage: whatever, as it has no hop)."""

    stage_s: Sequence[float]
    hop_s: Sequence[float]


@dataclass(frozen=True)
class Deviation:
    """A stage or hop that does not take what was predicted. `node` computes or sends, `receiver` is "" for a stage."""

    node: str
    receiver: str
    predicted_s: float
    measured_s: float
    text: str


def compare(report: PlanReport, measured: Measured) -> list[Deviation]:
    """Every part that is off by more than 10 % and by more than 1 % of the predicted token; the worst first.

    Raises PlanError where another number of stages was measured than planned.
    """
    least = NOTICEABLE * report.prediction.token_s
    deviations = [
        Deviation(node, receiver, predicted, seconds, _text(node, receiver, predicted, seconds))
        for node, receiver, predicted, seconds in _parts(report, measured)
        if abs(seconds - predicted) > max(TOLERANCE * predicted, least)
    ]
    return sorted(deviations, key=lambda one: -abs(one.measured_s - one.predicted_s))


def profiles_from(
    report: PlanReport, measured: Measured, profiles: Sequence[NodeProfile], links: Sequence[LinkProfile]
) -> tuple[list[NodeProfile], list[LinkProfile]]:
    """The profiles and links with those that the plan uses rescaled to what was measured, the others as they are.

    A node's times are scaled in one, as one stage's median does not tell its parts from each other. Raises PlanError
    where another number of stages was measured than planned.
    """
    parts = _parts(report, measured)
    nodes = {node: (predicted, seconds) for node, receiver, predicted, seconds in parts if not receiver}
    hops = {(node, receiver): (predicted, seconds) for node, receiver, predicted, seconds in parts if receiver}
    return (
        [_node(profile, *nodes[profile.name]) if profile.name in nodes else profile for profile in profiles],
        [_link(link, *hops[way]) if (way := (link.sender, link.receiver)) in hops else link for link in links],
    )


def _parts(report: PlanReport, measured: Measured) -> list[tuple[str, str, float, float]]:
    """(node, receiver or "", predicted, measured) of each stage and hop."""
    stages = report.stages
    ways = len(stages) if len(stages) > 1 else 0
    if len(measured.stage_s) != len(stages) or len(measured.hop_s) < ways:
        raise PlanError(
            f"the plan has {len(stages)} stages and {ways} hops, and {len(measured.stage_s)} and "
            f"{len(measured.hop_s)} were measured: they are of different pipelines"
        )
    computing = [
        (stage.node, "", stage.step_s, seconds) for stage, seconds in zip(stages, measured.stage_s, strict=True)
    ]
    receivers = [*(stage.node for stage in stages[1:]), stages[0].node]
    moving = [
        (stage.node, receiver, stage.hop_s, seconds)
        for stage, receiver, seconds in list(zip(stages, receivers, measured.hop_s, strict=False))[:ways]
    ]
    return computing + moving


def _text(node: str, receiver: str, predicted: float, seconds: float) -> str:
    what = f"the way from {node} to {receiver}" if receiver else f"the stage on {node}"
    times = f"{what} takes {seconds * 1e3:.2f} ms where {predicted * 1e3:.2f} were predicted"
    return f"{times} ({seconds / predicted - 1:+.0%})" if predicted > 0 else times


def _node(profile: NodeProfile, predicted: float, seconds: float) -> NodeProfile:
    if predicted <= 0 or seconds <= 0:
        return profile
    factor = seconds / predicted
    return msgspec.structs.replace(
        profile,
        fixed_s=profile.fixed_s * factor,
        layer_s=[(positions, each * factor) for positions, each in profile.layer_s],
        head_s=[(rows, each * factor) for rows, each in profile.head_s],
        source=SOURCE,
    )


def _link(link: LinkProfile, predicted: float, seconds: float) -> LinkProfile:
    """Scaled, or all latency where nothing was predicted that could be."""
    if predicted <= 0:
        return msgspec.structs.replace(link, latency_s=max(seconds, 0.0), source=SOURCE)
    factor = max(seconds, 0.0) / predicted
    bandwidth = link.bandwidth_bytes_s / factor if factor else link.bandwidth_bytes_s
    return msgspec.structs.replace(link, latency_s=link.latency_s * factor, bandwidth_bytes_s=bandwidth, source=SOURCE)
