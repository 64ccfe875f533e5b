"""What the planner is asked: the configuration's wishes, or a client's in place of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

from nova.config.schema import NodeConfig, Plan
from nova.errors import PlanError
from nova.plan.inputs import ModelFigures, Question, Strategy, Workload
from nova.wire.plans import LinkProfile, NodeProfile
from nova.wire.requests import PlanQuery

MAX_BATCH = 4096
MAX_TOKENS = 1 << 24
"""Beyond these a question is a mistake; the planner tries every size of group that a batch may be cut into."""


@dataclass(frozen=True)
class Wish:
    """All of a question that is not measured. `excluded` gives reasons; `manual` is for that strategy: (node, layers)
    in pipeline order."""

    model: str
    strategy: Strategy
    workload: Workload
    pinned: frozenset[str]
    excluded: dict[str, str]
    manual: Sequence[tuple[str, int]] = ()

    def question(self, model: ModelFigures, nodes: Sequence[NodeProfile], links: Sequence[LinkProfile]) -> Question:
        """No text is longer than the model's context, so no memory is set aside for one."""
        context = min(self.workload.context, model.context or self.workload.context)
        workload = replace(self.workload, context=context)
        return Question(
            model, nodes, links, workload, self.strategy, self.pinned, dict(self.excluded), self.manual
        )  # fmt: skip


def candidates(config: NodeConfig) -> list[str]:
    """The nodes that may hold the model's layers, all of which are waited for."""
    left_out = [] if config.plan.strategy == "manual" else config.plan.exclude
    return [str(node) for node in config.deployment.nodes if node not in left_out]


def configured(plan: Plan, model: str) -> Wish:
    """What the deployment is planned for."""
    workload = Workload(
        context=plan.context, batch=plan.batch, acceptance=plan.acceptance, head_room=plan.head_room,
        min_layers=plan.min_layers, prefer=plan.prefer,
    )  # fmt: skip
    excluded = dict.fromkeys(map(str, plan.exclude), "excluded by plan.exclude")
    return Wish(model, plan.strategy, workload, frozenset(map(str, plan.pin)), excluded)


def asked(query: PlanQuery, config: NodeConfig, placed: Sequence[tuple[str, int]]) -> Wish:
    """A client's wishes over the configuration's. `placed` is what runs, which the strategy "manual" means where nobody
    says otherwise. Raises PlanError for what cannot be meant."""
    wish, known = configured(config.plan, config.deployment.model), config.deployment.nodes or [config.name]
    strategy = query.strategy or wish.strategy
    if strategy not in get_args(Strategy):
        raise PlanError(f"no strategy {strategy[:40]!r}: it is one of {', '.join(get_args(Strategy))}")
    for what, number, most in (
        ("batch", query.batch, MAX_BATCH), ("context", query.context, MAX_TOKENS), ("prompt", query.prompt, MAX_TOKENS),
    ):  # fmt: skip
        if not 0 <= number <= most:
            raise PlanError(f"a {what} of {number} cannot be planned for: it is from 1 to {most}")
    acceptance = wish.workload.acceptance if query.acceptance is None else query.acceptance
    if not 0.0 <= acceptance < 1.0:
        raise PlanError(f"an acceptance of {acceptance} cannot be planned for: it is at least 0 and below 1")
    if unknown := [node for node in query.excluded if node not in known]:
        raise PlanError(f"{', '.join(unknown)} cannot be left out: deployment.nodes has {', '.join(known)}")
    workload = replace(
        wish.workload,
        context=query.context or wish.workload.context,
        batch=query.batch or wish.workload.batch,
        prompt=query.prompt or wish.workload.prompt,
        acceptance=acceptance,
    )
    excluded = wish.excluded | dict.fromkeys(query.excluded, "excluded by whoever asks")
    pinned = frozenset(query.pinned) or wish.pinned - set(query.excluded)
    manual = tuple(query.manual or placed) if strategy == "manual" else ()
    return Wish(query.model or wish.model, cast(Strategy, strategy), workload, pinned, excluded, manual)
