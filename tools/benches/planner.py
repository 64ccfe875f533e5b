"""The planner beside every placement there is, beside the rules of other programs, and against the clock.

Times come from random profiles; nothing runs. The comparison with rules counts clusters on which every rule fits: on
the others a rule has no plan at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random

from benches.exhaustive import best_seconds
from benches.report import Progress, Report, machine
from nova.errors import PlanError
from nova.plan import rules
from nova.plan.costmodel import CostModel, Split
from nova.plan.inputs import Layer, ModelFigures, Question, Workload
from nova.plan.instances import Instances
from nova.plan.predict import Goal, goal_rate
from nova.plan.search import search
from nova.plan.strategies import best
from nova.wire.plans import LinkProfile, NodeProfile

GOALS: tuple[Goal, ...] = ("latency", "throughput", "speculative")
SAME = 1e-9
"""Share: what the order of sums is worth."""
GIB = 1 << 30


@dataclass(frozen=True)
class Extent:
    """How many clusters of each kind."""

    tried: int = 300
    compared: int = 50
    timed: int = 5


def run(progress: Progress, quick: bool = False) -> Report:
    report, extent = Report("planner", machine()), Extent(30, 10, 1) if quick else Extent()
    _regret(report, extent, progress)
    _rules(report, extent, progress)
    _seconds(report, extent, progress)
    return report


def _regret(report: Report, extent: Extent, progress: Progress) -> None:
    """Tight memory, uneven links, some of them missing: up to 5 nodes and 24 layers."""
    random = Random(1)
    regrets: dict[Goal, list[float]] = {goal: [] for goal in GOALS}
    wrong = placed = unplaced = 0
    while placed < extent.tried:
        progress(f"every placement of cluster {placed + 1} of {extent.tried}")
        question = tight(random, random.randint(1, 5), random.randint(5, 24))
        least = best_seconds(question)
        fits = least["latency"] < inf
        placed, unplaced = placed + fits, unplaced + (not fits)
        cost, names = CostModel(question), [node.name for node in question.nodes]
        for goal in GOALS:
            try:
                choice = best(cost, names, goal)
            except PlanError:
                wrong += fits
                continue
            wrong += not fits or bool(rules.lacks(cost, choice.split))
            regrets[goal].append(1 / goal_rate(cost, choice.split, goal) / least[goal] - 1)
    report.measured("clusters with a placement", "", [placed])
    report.measured("clusters without", "", [unplaced])
    for goal, found in regrets.items():
        report.measured(f"{goal}: seconds over the best of all", "share", found)
        report.check(f"{goal}: largest regret", max(found), "share", "<=", SAME)
    report.check("fits where nothing does, or the other way round", wrong, "plans", "<=", 0)


def _rules(report: Report, extent: Extent, progress: Progress) -> None:
    """2 to 5 nodes, each linked with each, that the model fills by a third to three quarters."""
    random = Random(2)
    ratios: dict[tuple[Goal, str], list[float]] = {}
    compared = 0
    while compared < extent.compared:
        question = roomy(random, random.randint(2, 5), random.randint(24, 64))
        cost, names = CostModel(question), [node.name for node in question.nodes]
        others: dict[str, Callable[[CostModel, list[str]], Split]] = {
            "exo (by memory)": rules.by_memory,
            "mlx-lm (equal)": rules.evenly,
            "oMLX (least slowest stage)": balanced,
        }
        try:
            splits = {name: rule(cost, names) for name, rule in others.items()}
        except PlanError:
            continue
        compared += 1
        progress(f"rules on cluster {compared} of {extent.compared}")
        for goal in GOALS:
            ours = goal_rate(cost, best(cost, names, goal).split, goal)
            for name, split in splits.items():
                ratios.setdefault((goal, name), []).append(ours / goal_rate(cost, split, goal))
    for (goal, name), found in ratios.items():
        report.measured(f"{goal}: Nova over {name}", "x", found)
        report.check(f"{goal}: Nova over {name}, worst", min(found), "x", ">=", 1 - SAME)


def balanced(cost: CostModel, names: list[str]) -> Split:
    """oMLX's objective, over all nodes: the least slowest stage; of those, the least sum."""
    instance = Instances(cost, names, frozenset(names)).at(1)
    found = search(instance, lambda total_s, slowest_s: slowest_s + 1e-6 * total_s, names=names)
    return [(names[node], count) for node, count in zip(found.order, found.split, strict=True)]


def _seconds(report: Report, extent: Extent, progress: Progress) -> None:
    for nodes, clusters, bound in ((10, extent.timed, 2.0), (1000, 1, 30.0)):
        for goal in GOALS:
            taken, gaps = [], []
            for seed in range(clusters):
                progress(f"{goal} on {nodes} nodes, cluster {seed + 1} of {clusters}")
                question = roomy(Random(seed), nodes, 128)
                cost, names = CostModel(question), [node.name for node in question.nodes]
                begun = time.monotonic()
                choice = best(cost, names, goal)
                taken.append(time.monotonic() - begun)
                gaps.append(choice.gap)
            report.measured(f"{goal}: {nodes} nodes, 128 layers", "s", taken)
            report.measured(f"{goal}: {nodes} nodes, from proven best at most", "share", gaps)
            report.check(f"{goal}: {nodes} nodes, 128 layers, slowest", max(taken), "s", "<", bound)


def tight(random: Random, nodes: int, layers: int) -> Question:
    parts = tuple(
        Layer(size, size, 0.0, random.choice([0, 1000]), random.choice([0, 50]), random.choice([0, 2]))
        for size in (random.randint(500, 2000) for _ in range(layers))
    )
    embedding, head, tied = random.randint(0, 3000), random.randint(0, 3000), random.random() < 0.5
    figures = ModelFigures("tight", parts, embedding, head, 0.0, tied, 1000)
    workload = Workload(context=random.choice([1, 4]), batch=4, acceptance=0.7, working_bytes=100, head_room=0.05)
    whole = sum(layer.weight_bytes + 4 * layer.kv_token_bytes for layer in parts)
    profiles = [_profile(random, f"n{index}", int(whole * random.uniform(0.2, 1.3))) for index in range(nodes)]
    return Question(figures, profiles, _links(random, profiles, 1000, 0.9), workload)


def roomy(random: Random, nodes: int, layers: int) -> Question:
    layer = Layer(GIB // 4, GIB // 4, 0.0, 4096)
    figures = ModelFigures("roomy", (layer,) * layers, GIB // 2, GIB // 2, 0.0, False, 16384)
    whole = layers * (layer.weight_bytes + 8 * 4096 * layer.kv_token_bytes) + GIB
    share = whole / random.uniform(0.33, 0.75) / min(nodes, layers // 4)
    profiles = [_profile(random, f"n{index}", int(share * random.uniform(0.5, 1.5))) for index in range(nodes)]
    workload = Workload(context=4096, batch=8, acceptance=0.8, head_room=0.0, working_bytes=0)
    return Question(figures, profiles, _links(random, profiles, 16384, 1.0), workload)


def _profile(random: Random, name: str, memory: int) -> NodeProfile:
    """0.3 to 5 ms a layer; each further position costs 5 to 100 % of the first."""
    layer_s, rise = random.uniform(0.0003, 0.005), random.uniform(0.05, 1)
    curve = [(width, layer_s * (1 + rise * (width - 1))) for width in (1, 2, 3, 4, 8)]
    head = [(1, random.uniform(0, 0.01)), (8, 0.01)]
    return NodeProfile(name, memory, random.uniform(0, 0.003), curve, head, "random")


def _links(random: Random, profiles: list[NodeProfile], hidden: int, share: float) -> list[LinkProfile]:
    """0.1 to 10 ms of latency, and 0 to 10 ms more for a hidden state's bytes."""
    names = [profile.name for profile in profiles]
    return [
        LinkProfile(a, b, random.uniform(0.0001, 0.01), hidden / random.uniform(1e-5, 0.01))
        for a in names
        for b in names
        if a != b and random.random() < share
    ]
