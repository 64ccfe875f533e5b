"""What a plan says to people: where its time goes, and whether one node would do better. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from nova.plan.costmodel import CostModel
from nova.plan.predict import Choice, Goal, at, rate
from nova.wire.plans import Alternative, PlannedStage, Prediction

FOR = {
    "latency": "for one stream",
    "throughput": "for all streams together",
    "speculative": "for one stream with guesses",
}


def bottleneck(cost: CostModel, goal: Goal, stages: Sequence[PlannedStage], prediction: Prediction) -> str:
    """The stage or hop that takes the largest part of a token's time, and why."""
    names = [stage.node for stage in stages]
    stage = max(stages, key=lambda stage: stage.step_s)
    sender = max(stages, key=lambda stage: stage.hop_s)
    token_s = prediction.token_s
    if sender.hop_s > stage.step_s:
        receiver = names[(names.index(sender.node) + 1) % len(names)]
        said = f"the way from {sender.node} to {receiver} takes {_of(sender.hop_s, token_s)}: a faster link helps most"
    else:
        said = f"{stage.node} takes {_of(stage.step_s, token_s)}: {_why(cost, stage)}"
    if goal != "throughput":
        return said
    slowest = max(stages, key=lambda stage: stage.chunk_s)
    rows = -(-cost.workload.batch // prediction.groups)
    cycle_s = cost.workload.batch / prediction.aggregate_tok_s
    busy = min(prediction.groups * slowest.chunk_s / cycle_s, 1)
    return (
        f"{slowest.node} is busy {busy:.0%} of the time with {prediction.groups} x {rows} streams, "
        f"{slowest.chunk_s * 1e3:.1f} ms each: {_why(cost, slowest)}"
    )


def _of(part_s: float, token_s: float) -> str:
    return f"{part_s * 1e3:.1f} of a token's {token_s * 1e3:.1f} ms ({part_s / token_s:.0%})"


def _why(cost: CostModel, stage: PlannedStage) -> str:
    """The largest part of the stage's time, for one position."""
    node, layers = cost.node(stage.node), len(cost.shares)
    has_head = stage.first_layer + stage.layers == layers
    head_s = at(node.head_s, 1) if has_head else 0.0
    layers_s = stage.step_s - head_s - node.fixed_s
    if node.fixed_s >= max(layers_s, head_s):
        return f"{node.fixed_s * 1e3:.1f} ms of a step are fixed there, whatever its {stage.layers} layers"
    if head_s > layers_s:
        return f"the head takes {head_s * 1e3:.1f} ms of a step there"
    return f"it has {stage.layers} of {layers} layers{' and the head' if has_head else ''}"


def advice(choice: Choice, nodes: int, prediction: Prediction, alternatives: Sequence[Alternative]) -> str:
    """Whether one node alone is better: what people want to hear first. "" where several are."""
    if nodes == 1:
        return ""
    reached = rate(prediction, choice.goal)
    if len(choice.split) > 1:
        single = next((each for each in alternatives if len(each.stages) == 1 and each.loss < 0), None)
        if single is None:
            return ""
        return (
            f"{single.what} is faster {FOR[choice.goal]}: {rate(single.prediction, choice.goal):.1f} tok/s "
            f"against {reached:.1f} with {len(choice.split)} nodes"
        )
    several = next((each for each in alternatives if len(each.stages) > 1), None)
    alone = f"{choice.split[0][0]} alone"
    if several is None or several.loss < 0:
        return ""
    return (
        f"{alone} is fastest {FOR[choice.goal]}: {reached:.1f} tok/s; with {len(several.stages)} nodes it would be "
        f"{rate(several.prediction, choice.goal):.1f} ({several.what})"
    )
