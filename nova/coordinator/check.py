"""One case of the conformance kit between engines of some nodes, beside the deployment and without a word to it.

A pure machine, fed with events and clock readings. Which case, and what to make of the ranks' results, the client
knows, which has the kit; here each node gets one engine that runs its rank of the case, in a group of its own, and
the case has a deadline. One case runs at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from nova.config.schema import NodeConfig
from nova.coordinator.generation import EngineRecord, Generation
from nova.coordinator.spec import Shape, engine_spec
from nova.errors import ControlError, NoTransport
from nova.transport.select import Candidate, select
from nova.wire import phases
from nova.wire.messages import EngineExited, EngineState, Gather, Gathered, Message, StartEngine, StopEngine
from nova.wire.requests import CheckQuery, CheckReply, Failed
from nova.wire.values import EngineKey, EngineSpec, RankResult, TransportOffer

GROUP = "check"
MAX_RANKS = 16
MAX_LIMIT_S = 600.0
MAX_NAME_CHARS = 200
MAX_TEXT_CHARS = 16 << 10
"""Of what one rank tells: all of them fit into one message to the client."""

GRACE_S = 2.0
"""What the report of an engine's end may take, beyond the limits that its daemon keeps."""

Outbox = list[tuple[str, Message]]
Offers = Mapping[str, Sequence[TransportOffer]]


@dataclass
class Running:
    """A case under way. `until` is when its engines are told to stop, and then when nobody waits for them any more."""

    client: int
    query: CheckQuery
    group: Generation
    until: float
    results: dict[int, str] = field(default_factory=dict)
    ended: dict[int, str] = field(default_factory=dict)
    stopping: bool = False


class Checks:
    """`answer` sends to a client's session, `ticket` makes the secret of a case's group."""

    def __init__(self, config: NodeConfig, ticket: Callable[[], bytes], answer: Callable[[int, Message], None]) -> None:
        self._config = config
        self._ticket = ticket
        self._answer = answer
        self._generation = 0
        self._running: Running | None = None

    # --- from clients -----------------------------------------------------------------------------------------------

    def begin(self, client: int, query: CheckQuery, offers: Offers, now: float) -> Outbox:
        """Start the case's engines; a query that cannot be met is answered with the reason."""
        try:
            return self._begin(client, query, offers, now)
        except (ControlError, NoTransport) as error:
            self._answer(client, Failed(query.request, str(error)))
            return []

    def abandon(self, client: int, now: float, request: str | None = None) -> Outbox:
        """The client is gone, or does not want the answer."""
        running = self._running
        if running is None or running.client != client or request not in (None, running.query.request):
            return []
        return self._stop(running, "whoever asked for the case is gone", now)

    # --- from nodes -------------------------------------------------------------------------------------------------

    def from_engine(self, node: str, message: EngineState | EngineExited | Gather, now: float) -> Outbox:
        """What an engine of the case says, or its daemon of its end; strangers and earlier cases change nothing."""
        running, rank = self._running, message.engine.rank
        if running is None or running.group.engine(node, message.engine) is None:
            return []
        match message:
            case EngineState(phase=phases.READY):
                running.results[rank] = message.detail[:MAX_TEXT_CHARS]
            case EngineExited():
                running.ended[rank] = message.reason[:MAX_TEXT_CHARS]
            case Gather() if (blobs := running.group.gathered(message)) is not None:  # the last blob is in
                engines = running.group.engines.values()
                return [(each.node, Gathered(each.key, message.round, blobs)) for each in engines]
        return self.tick(now)

    def node_left(self, node: str, why: str, now: float) -> Outbox:
        if self._running is not None:
            for rank, each in self._running.group.engines.items():
                if each.node == node:
                    self._running.ended.setdefault(rank, f"{node} left: {why}")
        return self.tick(now)

    def tick(self, now: float) -> Outbox:
        """Whatever time brings: the last engine's end, or the deadline."""
        running = self._running
        if running is None:
            return []
        if len(running.ended) < len(running.group.engines):
            if now < running.until:
                return []
            if not running.stopping:
                return self._stop(running, f"{running.query.case} took too long", now)
        self._running = None
        ranks = [
            RankResult(each.node, running.results.get(rank, ""), running.ended.get(rank, "it does not end"))
            for rank, each in sorted(running.group.engines.items())
        ]
        self._answer(running.client, CheckReply(running.query.request, ranks))
        return []

    # --- inside -----------------------------------------------------------------------------------------------------

    def _begin(self, client: int, query: CheckQuery, offers: Offers, now: float) -> Outbox:
        """Raises ControlError and NoTransport."""
        if self._running is not None:
            raise ControlError(f"{self._running.query.case} is being checked already: try again when it is done")
        nodes, name = query.nodes, query.transport
        if not 0 < len(set(nodes)) == len(nodes) <= MAX_RANKS or not 0 < query.limit_s <= MAX_LIMIT_S:
            raise ControlError(f"a case takes 1 to {MAX_RANKS} different nodes and at most {MAX_LIMIT_S:g} s")
        if len(query.case) > MAX_NAME_CHARS:
            raise ControlError(f"the name of a case has at most {MAX_NAME_CHARS} characters")
        if missing := [node for node in nodes if node not in offers]:
            raise ControlError(f"{', '.join(missing)} is not here; nodes are {', '.join(sorted(offers)) or 'none'}")
        # Being asked for, it needs no place in transport.order; that it may not be used over this network still counts.
        policy = msgspec.structs.replace(self._config.transport, order=[name], allow=[])
        selection = select({node: offers[node] for node in nodes}, policy)
        if not selection.ranked or selection.ranked[0].name != name:
            raise NoTransport({name: selection.rejected.get(name, "nobody offers it")})
        self._generation += 1
        engines = {
            rank: EngineRecord(node, EngineKey(GROUP, self._generation, rank), 0, 0) for rank, node in enumerate(nodes)
        }
        group = Generation(self._generation, _with_hosts(selection.ranked[0], offers, nodes), engines, now)
        self._running = Running(client, query, group, now + self._config.engine.start_s + query.limit_s + GRACE_S)
        shape = Shape(0, len(nodes), self._ticket())
        return [(each.node, StartEngine(each.key, self._spec(each, group, shape, query))) for each in engines.values()]

    def _spec(self, engine: EngineRecord, group: Generation, shape: Shape, query: CheckQuery) -> EngineSpec:
        """The case's limit is that of the phase it runs in, so that a daemon ends an engine that is stuck."""
        spec = engine_spec(self._config, engine, group.candidate, shape)
        return msgspec.structs.replace(spec, check=query.case, join_s=query.limit_s)

    def _stop(self, running: Running, reason: str, now: float) -> Outbox:
        """Its daemons have killed the engines by then, or will never say so."""
        if running.stopping:
            return []
        running.stopping = True
        running.until = now + 2 * self._config.engine.stop_s + GRACE_S
        left = [each for rank, each in running.group.engines.items() if rank not in running.ended]
        return [(each.node, StopEngine(each.key, reason)) for each in left]


def _with_hosts(candidate: Candidate, offers: Offers, nodes: Sequence[str]) -> Candidate:
    """A node alone has no link that its addresses would be chosen for: it gets all that it offers."""
    if len(nodes) > 1:
        return candidate
    ours = [each.address for offer in offers[nodes[0]] if offer.name == candidate.name for each in offer.attachments]
    return replace(candidate, hosts={nodes[0]: ours})
