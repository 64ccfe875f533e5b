"""From a question to a placement, by the strategy that was asked for. Pure.

`latency`, `throughput` and `speculative` search for the best there is; `spread`, `memory` and `manual` follow a rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf

from nova.errors import PlanError
from nova.plan import rules
from nova.plan.answer import answer
from nova.plan.costmodel import CostModel, Split
from nova.plan.inputs import Question
from nova.plan.instances import Instances, least_s
from nova.plan.predict import WIDTHS, Choice, Goal, chunks_behind, cycle_s, divisions, epoch_s
from nova.plan.search import Instance, Objective, Placement, search
from nova.wire.plans import PlanReport

PREFERRED: dict[str, Goal] = {"stream": "latency", "many": "throughput", "speculative": "speculative"}
"""What `auto` plans for, and what placements by rule are compared by."""

EXACT_NODES = 10
"""Up to so many the search is exact, and quick: then the best for another goal is told too."""


def plan(question: Question) -> PlanReport:
    """The placement that the question's strategy comes to, and all that is to be said of it.

    Raises PlanError where nothing fits, with what is missing.
    """
    cost, names = CostModel(question), _candidates(question)
    preferred = PREFERRED[question.workload.prefer]
    match question.strategy:
        case "spread":
            choice = Choice("spread", preferred, rules.spread(cost, names))
        case "memory":
            choice = Choice("memory", preferred, rules.by_memory(cost, names))
        case "manual":
            choice = Choice("manual", preferred, rules.manual(cost, question.manual))
        case "auto":
            choice = best(cost, names, preferred, question.pinned)
        case "latency" | "throughput" | "speculative":
            choice = best(cost, names, question.strategy, question.pinned)
    used = {name for name, _ in choice.split}
    if left_out := [name for name in question.pinned if name not in used]:
        raise PlanError(f"the plan has no stage on {', '.join(sorted(left_out))}, which plan.pin asks for")
    if excluded := [name for name in used if name in question.excluded]:
        raise PlanError(f"the plan has a stage on {', '.join(sorted(excluded))}, which may have none")
    return answer(question, cost, names, choice, _runner_up(cost, names, choice, question.pinned))


def best(cost: CostModel, names: list[str], goal: Goal, pinned: frozenset[str] = frozenset()) -> Choice:
    """The placement over any of these nodes that is best for the goal.

    Every size of chunk that the goal may choose is a search of its own; those that cannot win are left out. Over more
    nodes than are searched exactly, only sizes follow at which the placement found is better still. Raises PlanError
    where nothing fits.
    """
    instances, spread = Instances(cost, names, pinned), min(len(names), len(cost.shares))
    tries = []
    for positions, objective in _sizes(cost, goal):
        instance = instances.at(positions)
        least = least_s(instance)
        tries.append(_Size(instance, objective, objective(least, least / spread)))
    value = bound = inf
    found: Placement | None = None
    while tries:
        judged = found if len(names) > EXACT_NODES else None
        promises = [size.promise(judged) for size in tries]
        if min(promises) >= value:
            break
        size = tries.pop(promises.index(min(promises)))
        below = partial(_capped, size.objective, value)  # the search drops at once what another size has beaten
        placement = search(size.instance, below, names=names)
        bound = min(bound, below(placement.total_s, placement.slowest_s) / (1 + placement.gap))
        if (reached := size.objective(placement.total_s, placement.slowest_s)) < value:
            value, found = reached, placement
    bound = min([bound, *(size.hope for size in tries)])
    assert found is not None  # the first search finds one, or raises
    split = [(names[at], count) for at, count in zip(found.order, found.split, strict=True)]
    return Choice(goal, goal, split, max(value / bound - 1, 0.0) if bound > 0 else 0.0)


@dataclass(frozen=True, eq=False)
class _Size:
    """A size of chunk that the goal may choose. No placement has a lower objective than `hope`."""

    instance: Instance
    objective: Objective
    hope: float

    def promise(self, placement: Placement | None) -> float:
        """The objective of the placement that was found for another size, or what could be at best."""
        if placement is None:
            return self.hope
        placed = self.instance.placed(placement.order, placement.split)
        return self.objective(placed.total_s, placed.slowest_s)


def _capped(objective: Objective, cap: float, total_s: float, slowest_s: float) -> float:
    return min(objective(total_s, slowest_s), cap)


def _sizes(cost: CostModel, goal: Goal) -> list[tuple[int, Objective]]:
    """(positions of a chunk, objective) of each search."""
    match goal:
        case "latency":
            return [(1, lambda total_s, slowest_s: total_s)]
        case "throughput":
            return [(rows, partial(cycle_s, groups=groups)) for rows, groups in divisions(cost.workload.batch)]
        case "speculative":
            alpha = cost.workload.acceptance
            return [(width, partial(epoch_s, behind=chunks_behind(alpha, width))) for width in WIDTHS]


def _runner_up(cost: CostModel, names: list[str], choice: Choice, pinned: frozenset[str]) -> dict[str, Split]:
    """What is best for one stream beside what is best for many, and the other way round."""
    if len(names) > EXACT_NODES:
        return {}
    if choice.goal != "latency":
        return {"the best for one stream": best(cost, names, "latency", pinned).split}
    if cost.workload.batch == 1:
        return {}
    return {f"the best for {cost.workload.batch} streams": best(cost, names, "throughput", pinned).split}


def _candidates(question: Question) -> list[str]:
    """Raises PlanError where there is none, or where a node is pinned that cannot be used."""
    names = [node.name for node in question.nodes]
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"{name} is described {names.count(name)} times: once is enough")
    for name in sorted(question.pinned):
        if name in question.excluded:
            raise PlanError(f"{name} is pinned, but cannot be used: {question.excluded[name]}")
        if name not in names:
            raise PlanError(f"{name} is pinned, but is none of the nodes: {', '.join(names) or 'there are none'}")
    candidates = [name for name in names if name not in question.excluded]
    if not candidates:
        reasons = "; ".join(f"{name}: {why}" for name, why in question.excluded.items())
        raise PlanError(f"there is no node to plan with{': ' if reasons else ''}{reasons}")
    return candidates
