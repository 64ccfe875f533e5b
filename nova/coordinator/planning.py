"""The deployment's own plan: made once its nodes are here, held against what its group takes, and made anew.

A placement by a better plan is taken between requests, and pauses that double lie between two of them. One that does
not come to serve is given up for the one before it, which did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from nova.clock import Clock
from nova.config.schema import Plan
from nova.coordinator.asked import Wish
from nova.coordinator.deployment import Deployment, Outbox
from nova.coordinator.judge import Judgement, judge
from nova.coordinator.observed import STEPS, Observed
from nova.coordinator.pause import doubled
from nova.coordinator.planner import Planned, Planner
from nova.errors import NovaError, PlanError
from nova.plan.compare import Measured
from nova.wire.plans import PlanReport
from nova.wire.work import ChunkTiming

log = structlog.get_logger(__name__)

JUDGE_S = 60.0
"""Between two comparisons, and from one placement to the next one, at first."""
LONGEST_S = 3600.0
MEASURING = "the nodes are being measured, to plan where the layers go"


class Planning:
    """`act(outbox)` sends, and does what follows from the deployment's new state."""

    def __init__(
        self, plan: Plan, planner: Planner, deployment: Deployment, act: Callable[[Outbox], None], clock: Clock
    ) -> None:
        self.deviations: list[str] = []
        self._plan = plan
        self._planner = planner
        self._deployment = deployment
        self._act = act
        self._clock = clock
        self._observed = Observed()
        self._wish: Wish | None = None
        self._planned: Planned | None = None
        self._former: Planned | None = None
        """What served before the placement that has not served yet."""
        self._task: asyncio.Task[None] | None = None
        self._since = 0
        """The first generation that has the present plan's placement."""
        self._moved = 0
        self._judge_at = 0.0
        self._move_at = 0.0
        self._told: list[tuple[str, str]] = []

    @property
    def report(self) -> PlanReport | None:
        """What the layers were placed by; None where they were not planned."""
        return self._planned.report if self._planned is not None else None

    @property
    def begun(self) -> bool:
        """Whether the deployment is to be planned, and its model is open."""
        return self._wish is not None

    @property
    def measured(self) -> Measured | None:
        """Of the group that serves; None before there are enough steps."""
        return self._observed.medians if self._deployment.state == "serving" else None

    def begin(self, wish: Wish) -> None:
        """From here on the deployment is to be planned, whenever its nodes are here."""
        self._wish, self._deployment.before = wish, MEASURING

    def passed(self, timing: ChunkTiming, offsets_ns: Sequence[int]) -> None:
        """A chunk has gone through all stages of the group that serves."""
        self._observed.saw(self._deployment.generation, timing, offsets_ns)

    def tick(self, now: float) -> None:
        if self._task is not None:
            if not self._task.done():
                return
            self._task.result()  # a defect ends the coordinator; all else has been told
            self._task = None
        if self._wish is None:
            return
        if self._planned is None:
            if self._deployment.may_try(now):
                self._task = asyncio.create_task(self._place(self._wish))
            return
        if self._deployment.generation < self._since:
            return
        if self._deployment.state == "serving":
            self._former = None
            if now >= self._judge_at and self._observed.fresh >= STEPS and (measured := self._observed.medians):
                self._judge_at = now + JUDGE_S
                self._observed.used()
                self._task = asyncio.create_task(self._compare(self._planned, measured))
        elif self._deployment.state == "failed" and not self._deployment.falls_back and self._former is not None:
            log.warning("the new placement does not serve, the former is taken", reason=self._deployment.why_not)
            self._take(self._former, now, "the placement before it served")
            self._former = None

    def close(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()

    async def _place(self, wish: Wish) -> None:
        try:
            planned = await self._planner.plan(wish)
        except NovaError as error:
            reason = f"no plan for {', '.join(self._deployment.nodes)}: {error}"
            log.error("the layers cannot be placed", reason=reason)
            self._deployment.not_placed(reason, self._clock())
            self._act([])
            return
        log.info("planned", placement=planned.placement, tok_s=round(planned.report.prediction.tok_s, 2))
        self._take(planned, self._clock(), "")

    async def _compare(self, planned: Planned, measured: Measured) -> None:
        try:
            judgement = await asyncio.to_thread(judge, planned, measured)
        except PlanError as error:
            log.warning("the plan could not be compared with what the group takes", reason=str(error))
            return
        if self._planned is planned and self._deployment.state == "serving":
            self._judged(judgement, self._clock())

    def _judged(self, judgement: Judgement, now: float) -> None:
        off = [(each.node, each.receiver) for each in judgement.deviations]
        advice = judgement.advice if self._plan.rebalance != "off" else ""
        self.deviations = [each.text for each in judgement.deviations] + ([advice] if advice else [])
        if off != self._told:
            self._told = off
            for text in self.deviations:
                log.warning("the plan is off", detail=text)
        if judgement.better is not None and self._plan.rebalance == "auto" and now >= self._move_at:
            self._former = self._planned
            self._moved += 1
            self._move_at = now + doubled(JUDGE_S, self._moved - 1, LONGEST_S)
            self._take(judgement.better, now, advice)

    def _take(self, planned: Planned, now: float, why: str) -> None:
        self._planned, self._since = planned, self._deployment.generation + 1
        self.deviations, self._told = [], []
        nodes, split = [node for node, _ in planned.placement], [layers for _, layers in planned.placement]
        self._act(self._deployment.place(nodes, split, now, why))
