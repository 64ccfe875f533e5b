"""Clients that ask for a plan: answered beside the event loop, a few at once, and nothing is changed by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nova.config.schema import NodeConfig
from nova.coordinator.asked import asked
from nova.coordinator.planner import Planner
from nova.coordinator.planning import Planning
from nova.coordinator.standing import Standing
from nova.errors import NovaError, PlanError
from nova.plan.compare import Measured
from nova.wire.messages import Message
from nova.wire.plans import PlanReport
from nova.wire.requests import Failed, PlanQuery, PlanReply

AT_ONCE = 4
"""Each of them may keep a core busy for seconds."""


class Questions:
    """`answer(session, message)` must not raise."""

    def __init__(
        self,
        config: NodeConfig,
        planner: Planner,
        planning: Planning,
        deployment: Standing,
        answer: Callable[[int, Message], None],
    ) -> None:
        self._config = config
        self._planner = planner
        self._planning = planning
        self._deployment = deployment
        self._answer = answer
        self._running: dict[asyncio.Task[None], int] = {}

    def ask(self, session: int, query: PlanQuery) -> None:
        if len(self._running) >= AT_ONCE:
            reason = f"{AT_ONCE} plans are being made already: try again later"
            self._answer(session, Failed(query.request, reason, code="busy"))
            return
        task = asyncio.create_task(self._reply(session, query))
        self._running[task] = session
        task.add_done_callback(self._running.pop)

    def abandon(self, session: int) -> None:
        """The client has gone."""
        for task, whose in self._running.items():
            if whose == session:
                task.cancel()

    def close(self) -> None:
        """Idempotent."""
        for task in self._running:
            task.cancel()

    async def _reply(self, session: int, query: PlanQuery) -> None:
        try:
            self._answer(session, PlanReply(query.request, await self._plan(query)))
        except NovaError as error:
            self._answer(session, Failed(query.request, str(error), code="invalid"))

    async def _plan(self, query: PlanQuery) -> PlanReport:
        """Raises PlanError, ModelError."""
        placed = list(zip(self._deployment.nodes, self._deployment.split, strict=False))
        wish = asked(query, self._config, placed)
        if not wish.model:
            raise PlanError("no model is deployed: name the one to plan for")
        measured = self._measured(wish.model, self._config.deployment.model) if query.measured else None
        return (await self._planner.plan(wish, measured)).report

    def _measured(self, model: str, deployed: str) -> Measured:
        """What the group that serves takes. Raises PlanError."""
        if model != deployed:
            raise PlanError(f"what runs is {deployed or 'no model'}, so there are no measured times for {model}")
        measured = self._planning.measured
        if measured is None and self._deployment.state != "serving":
            raise PlanError(f"no measured times: {self._deployment.why_not}")
        if measured is None:
            raise PlanError("no measured times: let the group generate some tokens of a single text, and ask again")
        return measured
