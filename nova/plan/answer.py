"""What is said of a placement: its bottleneck, what else there is and what that would lose, who is left out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nova.errors import PlanError
from nova.plan import rules
from nova.plan.costmodel import CostModel, Split
from nova.plan.inputs import Question
from nova.plan.left_out import left_out
from nova.plan.predict import Choice, Goal, forecast, goal_rate, rate
from nova.plan.sentences import advice, bottleneck
from nova.wire.plans import Alternative, PlanReport


def answer(
    question: Question, cost: CostModel, names: list[str], choice: Choice, rivals: Mapping[str, Split]
) -> PlanReport:
    """The report of a chosen placement. `names` are the nodes that could be used, `rivals` more placements by name."""
    stages, prediction = forecast(cost, choice.split)
    goal, notes, workload = choice.goal, list[str](), question.workload
    excluded, joined = left_out(question, cost, choice)
    others = {**_alone(cost, names, goal, notes), **joined, **rivals}
    if len(names) > 1:
        others |= _by_rule("the same number of layers for all", lambda: rules.evenly(cost, names), notes)
        others |= _by_rule("layers in proportion to memory", lambda: rules.by_memory(cost, names), notes)
    alternatives = _alternatives(cost, choice, rate(prediction, goal), others)
    return PlanReport(
        question.model.name, question.strategy, choice.objective, stages, prediction,
        bottleneck(cost, goal, stages, prediction), advice(choice, len(names), prediction, alternatives),
        alternatives, excluded, choice.gap, notes,
        workload.context, workload.batch, workload.prompt, workload.acceptance,
    )  # fmt: skip


def _alone(cost: CostModel, names: list[str], goal: Goal, notes: list[str]) -> dict[str, Split]:
    """The best single node, or a note of what the roomiest one lacks."""
    splits: list[Split] = [[(name, len(cost.shares))] for name in names]
    if fitting := [split for split in splits if not rules.lacks(cost, split)]:
        split = max(fitting, key=lambda split: goal_rate(cost, split, goal))
        return {f"{split[0][0]} alone": split}
    roomiest = max(splits, key=lambda split: cost.room(split[0][0]))
    notes.append(f"no node alone holds the model: {rules.lacks(cost, roomiest)[0]}")
    return {}


def _by_rule(what: str, rule: Callable[[], Split], notes: list[str]) -> dict[str, Split]:
    """What the rule gives, or a note why it gives nothing."""
    try:
        return {what: rule()}
    except PlanError as error:
        notes.append(f"{what}: {error}")
        return {}


def _alternatives(cost: CostModel, choice: Choice, reached: float, others: Mapping[str, Split]) -> list[Alternative]:
    """Each placement once, under its first name; the best first."""
    seen = [list(choice.split)]
    alternatives = []
    for what, split in others.items():
        if list(split) in seen:
            continue
        seen.append(list(split))
        stages, prediction = forecast(cost, split)
        loss = 1 - rate(prediction, choice.goal) / reached
        alternatives.append(Alternative(what, stages, prediction, loss))
    return sorted(alternatives, key=lambda alternative: alternative.loss)
