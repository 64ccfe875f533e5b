"""The coordinator: events from sessions go to the deployment and to the requests, and their messages to sessions.

Only glue and I/O. What to do is decided in `deployment` and `serving`, which know no socket. `front` is a client in
this process: its sessions have negative numbers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from nova.clock import Clock, monotonic
from nova.config.schema import NodeConfig
from nova.control.hub import Hub
from nova.control.session import Session
from nova.coordinator import asked, check
from nova.coordinator.books import Books
from nova.coordinator.deployment import Deployment, Outbox
from nova.coordinator.front import Front
from nova.coordinator.intake import Intake
from nova.coordinator.metrics import Metrics, State
from nova.coordinator.model import open_model
from nova.coordinator.planner import Planner
from nova.coordinator.planning import Planning
from nova.coordinator.questions import Questions
from nova.coordinator.serving import Post, Serving
from nova.coordinator.status import explain, status
from nova.coordinator.survey import Survey
from nova.coordinator.texts import Texts
from nova.coordinator.trace import Trace
from nova.errors import NodeLost, NovaError, ProtocolError
from nova.ids import new_ticket
from nova.model.locate import served_name
from nova.wire.messages import EngineExited, EngineState, Gather, Measured, Message, Offers, Pooled, Step
from nova.wire.requests import (
    Abandon,
    CheckQuery,
    ExplainQuery,
    Failed,
    Generate,
    PlanQuery,
    StatusQuery,
    StatusReply,
    TraceQuery,
)

log = structlog.get_logger(__name__)

TICK_S = 0.1
"""Deadlines of requests and pauses between attempts are kept to this precision."""


class Coordinator:
    """Handler of the hub's sessions. `boot_id` is this machine's, for telling which nodes share its clock."""

    def __init__(self, config: NodeConfig, home: Path, boot_id: str, clock: Clock = monotonic) -> None:
        self.hub: Hub | None = None
        self._config = config
        self._home = home
        self._boot_id = boot_id
        self._clock = clock
        self._workers: dict[str, Session] = {}
        self._texts = Texts()
        self._answering: set[asyncio.Task[None]] = set()
        nodes = asked.candidates(config) or [config.name]
        self._deployment = Deployment(config, nodes, [], new_ticket)
        self._checks = check.Checks(config, new_ticket, self._to_client)
        self._metrics, self._trace = Metrics(nodes), Trace()
        books = Books(self._deployment, self._metrics, self._trace, self._offset_ns, clock)
        post = Post(self._to_client, self._to_node)
        self._serving = Serving(config.deployment, self._deployment, post, books, clock)
        self._survey = Survey(self._to_node, self._machine)
        planner = Planner(self._deployment, self._survey, home)
        self._planning = Planning(config.plan, planner, self._deployment, self._step, clock)
        self._questions = Questions(config, planner, self._planning, self._deployment, self._to_client)
        self._intake = Intake(self._serving, self._texts)
        self.front = Front(self, self._texts)

    async def run(self) -> None:
        """Until cancelled. A model that cannot be opened is not the end: status and requests say why."""
        opening = asyncio.create_task(self._open_model())
        try:
            while True:
                if opening.done():
                    opening.result()
                self._step(self._deployment.tick(self._clock()))
                self._send(self._checks.tick(self._clock()))
                self._planning.tick(self._clock())
                await asyncio.sleep(TICK_S)
        finally:
            opening.cancel()

    def close(self) -> None:
        """Tell clients and nodes that it is over. Idempotent."""
        self._serving.fail_all(f"the coordinator {self._config.name} is shutting down", "unavailable")
        self._send(self._deployment.stop(self._clock()))
        self._texts.close()
        self._planning.close()
        self._questions.close()

    # --- the front --------------------------------------------------------------------------------------------------

    @property
    def why_not(self) -> str:
        """Why requests would not be served at this moment; "" if they would be."""
        return self._texts.problem or ("" if self._deployment.state == "serving" else self._deployment.why_not)

    def ask(self, session: int, generate: Generate) -> None:
        """A request comes in."""
        self._intake.ask(session, generate)

    def abandon(self, session: int, request: str | None = None) -> None:
        """The client has gone, or no longer wants this request."""
        self._intake.abandon(session, request)

    def status(self, request: str) -> StatusReply:
        """The cluster at this moment."""
        sessions = self.hub.sessions if self.hub is not None else []
        counters = {**(self.hub.counters if self.hub is not None else {}), **self._serving.counters}
        problem = self._texts.problem if self._texts.settled.is_set() else ""
        model = served_name(self._config.deployment.model)
        return status(
            request, self._config.name, model, self._deployment, sessions, counters, problem, self._planning,
            self._clock(),
        )  # fmt: skip

    def metrics(self) -> bytes:
        """All metrics in Prometheus' text format."""
        running, waiting = self._serving.busy
        serving, generation = self._deployment.state == "serving", self._deployment.generation
        return self._metrics.render(
            State(running, waiting, serving, generation, self._serving.kv_usage), self._clock()
        )  # fmt: skip

    # --- sessions ---------------------------------------------------------------------------------------------------

    def joined(self, session: Session) -> None:
        if session.role != "worker":
            return
        known = self._workers.get(session.name)
        if known is not None:
            self.left(known, "it began a new session")
        self._workers[session.name] = session
        self._step(self._deployment.node_joined(session.name, session.hello.offers, self._clock()))

    def left(self, session: Session, why: str) -> None:
        if session.role != "worker":
            self.abandon(session.id)
            self._send(self._checks.abandon(session.id, self._clock()))
            self._questions.abandon(session.id)
        elif self._workers.get(session.name) is session:
            log.warning("node left", node=session.name, reason=why)
            del self._workers[session.name]
            self._step(self._deployment.node_left(session.name, why, self._clock()))
            self._send(self._checks.node_left(session.name, why, self._clock()))
            self._survey.node_left(session.name, why)

    def received(self, session: Session, message: Message) -> None:
        now, node = self._clock(), session.name
        match message:
            case EngineState(engine=key) | EngineExited(engine=key) | Gather(engine=key) if key.group == check.GROUP:
                self._send(self._checks.from_engine(node, message, now))
            case EngineState():
                self._step(self._deployment.engine_state(node, message, now))
            case EngineExited():
                if message.log_tail:
                    log.warning("engine died", node=node, reason=message.reason, log_tail=message.log_tail)
                self._step(self._deployment.engine_exited(node, message, now))
            case Gather():
                self._step(self._deployment.gathered(node, message, now))
            case Offers():
                log.info("a node's transports have changed", node=node)
                session.offers = message.offers
                self._step(self._deployment.node_offers(node, message.offers, now))
            case Step():
                self._stepped(node, message, now)
            case Pooled():
                self._serving.pooled(node, message)
            case Measured():
                self._survey.measured(node, message)
            case Generate():
                self.ask(session.id, message)
            case Abandon():
                self.abandon(session.id, message.request)
                self._send(self._checks.abandon(session.id, now, message.request))
            case CheckQuery():
                offers = {name: worker.offers for name, worker in self._workers.items()}
                self._send(self._checks.begin(session.id, message, offers, now))
            case PlanQuery():
                self._questions.ask(session.id, message)
            case ExplainQuery():
                self._to_client(session.id, explain(message.request, self._deployment, now))
            case StatusQuery():
                self._to_client(session.id, self.status(message.request))
            case TraceQuery():
                task = asyncio.create_task(self._answer_trace(session.id, message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case other:
                log.warning("message for a node dropped", kind=type(other).__name__, name=session.name)

    def _stepped(self, node: str, message: Step, now: float) -> None:
        """For its requests, and for what its way through the stages tells of the links."""
        deployment = self._deployment
        timings = [message.timing] if message.timing is not None else []
        if deployment.state == "serving" and (node, message.engine) == (deployment.driver.node, deployment.driver.key):
            offsets = [self._offset_ns(each) for each in deployment.nodes]
            if slow := deployment.passed(timings, offsets):
                log.warning("a link is slow", detail=slow)
            for timing in timings:
                self._planning.passed(timing, offsets)
        self._serving.stepped(node, message)

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _answer_trace(self, session: int, query: TraceQuery) -> None:
        found = self._trace.find(query.target)
        if isinstance(found, str):
            self._to_client(session, Failed(query.request, found, code="invalid"))
            return
        offsets = [self._offset_ns(each) for each in found.nodes]
        self._to_client(session, await asyncio.to_thread(found.reply, query.request, offsets))

    async def _open_model(self) -> None:
        deployment = self._config.deployment
        if not deployment.model:
            self._texts.settle("no model is deployed: set deployment.model in the coordinator's configuration")
            return
        planned = self._config.plan.strategy != "manual"
        opening = (deployment.model, self._home, len(self._deployment.nodes), None if planned else deployment.split)
        try:
            model = await asyncio.to_thread(open_model, *opening)
        except NovaError as error:
            self._texts.settle(str(error))
            log.error("model cannot be served", model=deployment.model, reason=str(error))
            return
        self._texts.settle(model)
        log.info("model opened", model=deployment.model, layers=model.layers, split=model.split)
        if planned:
            self._planning.begin(asked.configured(self._config.plan, deployment.model))
        else:
            self._step(self._deployment.place(self._deployment.nodes, model.split, self._clock()))

    # --- out --------------------------------------------------------------------------------------------------------

    def _step(self, outbox: Outbox) -> None:
        """Send, and look whether requests may begin or have lost their group."""
        self._send(outbox)
        self._metrics.placed(self._deployment.nodes)
        if self._deployment.falls_back:  # the next transport is tried at once: what waits may still be served
            self._serving.fail_active(self._deployment.reasons[-1])
        elif self._deployment.state == "failed":
            self._serving.fail_all(self._deployment.reasons[-1])
        self._serving.advance()
        if not self._serving.busy[0] and (ending := self._deployment.idle(self._clock())):
            log.info("the group ends for a better one", reason=self._deployment.reasons[-1])
            self._send(ending)

    def _send(self, outbox: Outbox) -> None:
        for node, message in outbox:
            self._to_node(node, message)

    def _to_node(self, node: str, message: Message) -> None:
        session = self._workers.get(node)
        if session is None:
            log.info("node is gone, message dropped", node=node, kind=type(message).__name__)
            return
        self._to(session.id, message)

    def _to_client(self, session_id: int, message: Message) -> None:
        if session_id < 0:
            self.front.answer(session_id, message)
        else:
            self._to(session_id, message)

    def _to(self, session_id: int, message: Message) -> None:
        if self.hub is None:
            return
        try:
            self.hub.send(session_id, message)
        except NodeLost as error:  # the session's end is reported by the hub itself
            log.info("message dropped", kind=type(message).__name__, reason=str(error))
        except ProtocolError as error:  # too large
            log.error("message dropped", kind=type(message).__name__, reason=str(error))

    def _machine(self, node: str) -> str:
        """A name of the machine that it runs on; one that does not say counts as a machine of its own."""
        session = self._workers.get(node)
        return session.hello.facts.boot_id if session is not None and session.hello.facts is not None else node

    def _offset_ns(self, node: str) -> int:
        """That node's monotonic clock minus ours; nought for a process on this very machine."""
        session = self._workers.get(node)
        if session is None or (session.hello.facts is not None and session.hello.facts.boot_id == self._boot_id):
            return 0
        return session.clock_offset_ns or 0
