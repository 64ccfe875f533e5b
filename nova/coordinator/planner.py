"""Plans for the nodes of a deployment: nodes measured, links known, and the planner asked beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from nova.coordinator.asked import Wish
from nova.coordinator.figures import read_figures
from nova.coordinator.standing import Standing
from nova.coordinator.survey import Survey
from nova.errors import PlanError
from nova.plan.compare import Measured, profiles_from
from nova.plan.inputs import ModelFigures, Question
from nova.plan.predict import predict
from nova.wire.plans import PlanReport

Figures = Callable[[str, Path], Awaitable[ModelFigures]]


@dataclass(frozen=True)
class Planned:
    """A plan, and what it was made from."""

    question: Question
    report: PlanReport

    @property
    def placement(self) -> list[tuple[str, int]]:
        return [(stage.node, stage.layers) for stage in self.report.stages]


@dataclass
class Planner:
    """`home` is where models are looked for."""

    deployment: Standing
    survey: Survey
    home: Path
    figures: Figures = read_figures

    async def plan(self, wish: Wish, running: Measured | None = None) -> Planned:
        """Every node that is here is measured, or answers from what it has kept. The times of the group that serves,
        if they are given, count in place of those of its nodes' profiles. Raises PlanError, ModelError."""
        question = await self._question(wish)
        if running is not None:
            placed = list(zip(self.deployment.nodes, self.deployment.split, strict=True))
            question = await asyncio.to_thread(corrected, question, placed, running)
        return await asyncio.to_thread(planned, question)

    async def _question(self, wish: Wish) -> Question:
        choice = self.deployment.choice
        here = list(choice.offers)
        if unknown := sorted({*wish.pinned, *(node for node, _ in wish.manual)} - set(here)):
            raise PlanError(f"{', '.join(unknown)} is not here; nodes are {', '.join(sorted(here)) or 'none'}")
        if not here:
            raise PlanError("no node that may be planned with is here: start their daemons")
        model = await self.figures(wish.model, self.home)
        profiles = await self.survey.profiles(here, wish.model)
        # What the present group holds there is free for the one that takes its place.
        held = {each.node: each.memory_bytes for each in self.deployment.engines.values() if not each.ended}
        profiles = [
            msgspec.structs.replace(each, memory_bytes=each.memory_bytes + held.get(each.name, 0)) for each in profiles
        ]
        return wish.question(model, profiles, choice.links())


def planned(question: Question) -> Planned:
    """A large cluster takes many seconds: off the event loop. Raises PlanError."""
    from nova.plan.strategies import plan  # brings numpy, and daemons that plan nothing start without its 0.1 s

    return Planned(question, plan(question))


def corrected(question: Question, placed: Sequence[tuple[str, int]], measured: Measured) -> Question:
    """The question with what its model takes as it is placed. Raises PlanError where that is another pipeline's."""
    stages, prediction = predict(question, placed)
    report = PlanReport(question.model.name, "manual", "manual", stages, prediction, "")
    profiles, links = profiles_from(report, measured, question.nodes, question.links)
    return replace(question, nodes=profiles, links=links)
