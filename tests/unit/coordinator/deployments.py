"""Deployments on a fake clock, and the messages that nodes would send to them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from nova.clock import FakeClock
from nova.config.schema import Control, Deployment, NodeConfig, Transport
from nova.coordinator.deployment import Deployment as Machine
from nova.coordinator.deployment import Outbox
from nova.coordinator.links import CHUNKS
from nova.transport.api import Caps
from nova.transport.offers import names
from nova.transport.select import FRAMES
from nova.wire import phases
from nova.wire.messages import EngineExited, EngineState, Message, StartEngine
from nova.wire.values import AttachmentOffer, EngineKey, KvCost, LinkMeasure, TransportOffer
from nova.wire.work import ChunkTiming

ORDER = ["tcp", "zmq"]
TICKET = b"s" * 32
HOLD_S = 30.0
GRACE_S = 3.0
"""dead_after_s of `config`, and a second."""


def offer(name: str, unavailable: str | None = None) -> TransportOffer:
    """What a node of the one network offers."""
    caps, here = names(FRAMES | Caps.ANY_PAIR | Caps.AUTHENTICATED), [AttachmentOffer("lan", "10.0.0.1", 1e-4, 1e9)]
    return TransportOffer(name, "1.0", (1, 0), caps, here, unavailable=unavailable)


def offers(*transports: str) -> list[TransportOffer]:
    return [offer(name) for name in transports]


def config(nodes: Sequence[str], retry_s: float = 1.0, retry_max_s: float = 60.0) -> NodeConfig:
    return NodeConfig(
        name="a",
        role="coordinator",
        control=Control(dead_after_s=GRACE_S - 1.0),
        transport=Transport(order=ORDER, security="none", hold_s=HOLD_S, options={"tcp": {"lanes": 2}}),
        deployment=Deployment(model="m", nodes=list(nodes), retry_s=retry_s, retry_max_s=retry_max_s),
    )


class Cluster:
    """A deployment, the clock, and what its nodes do in the good case."""

    def __init__(self, nodes: str = "ab", retry_s: float = 1.0, retry_max_s: float = 60.0) -> None:
        self.clock = FakeClock(100.0)
        split = [index + 2 for index in range(len(nodes))]
        self.machine = Machine(config(nodes, retry_s, retry_max_s), list(nodes), split, lambda: TICKET)

    def join_all(self, *transports: str) -> Outbox:
        out: Outbox = []
        for node in self.machine.missing:
            out += self.machine.node_joined(node, offers(*(transports or ORDER)), self.clock())
        return out

    def key(self, rank: int) -> EngineKey:
        return self.machine.engines[rank].key

    def state(self, rank: int, phase: str, detail: str = "") -> Outbox:
        engine = self.machine.engines[rank]
        return self.machine.engine_state(engine.node, EngineState(engine.key, phase, detail=detail), self.clock())

    def exit(self, rank: int, error: str = "", reason: str = "killed by SIGKILL") -> Outbox:
        engine = self.machine.engines[rank]
        exited = EngineExited(engine.key, 4711, False, reason, engine.phase, error)
        return self.machine.engine_exited(engine.node, exited, self.clock())

    def all_ready(self, *kv: KvCost) -> None:
        """`kv` are the stages', if they say what requests cost."""
        for engine, cost in zip_longest(self.machine.engines.values(), kv):
            state = EngineState(engine.key, phases.READY, kv=cost)
            self.machine.engine_state(engine.node, state, self.clock())

    def trial_ready(self, latency_s: float = 1e-3) -> Outbox:
        """The engines of the trial form and verify."""
        out: Outbox = []
        running = self.machine.change.trial.running
        for rank, engine in (running.engines if running is not None else {}).items():
            links = [LinkMeasure((rank + 1) % len(self.machine.nodes), latency_s, 1e9)]
            out += self.machine.engine_state(
                engine.node, EngineState(engine.key, phases.READY, links=links), self.clock()
            )
        return out

    def tick(self, seconds: float = 0.0) -> Outbox:
        """Engines that were told to stop have done so; then time passes."""
        out = self.obey()
        self.clock.advance(seconds)
        return out + self.machine.tick(self.clock())

    def obey(self) -> Outbox:
        out: Outbox = []
        if self.machine.state == "failed":
            for engine in list(self.machine.engines.values()):
                if not engine.ended:
                    exited = EngineExited(engine.key, 4711, True, "stopped", engine.phase)
                    out += self.machine.engine_exited(engine.node, exited, self.clock())
        return out

    def serving(self, *transports: str, kv: Sequence[KvCost] = ()) -> Cluster:
        self.join_all(*transports)
        self.all_ready(*kv)
        assert self.machine.state == "serving"
        return self


def kinds(out: Outbox) -> list[tuple[str, type[Message]]]:
    return [(node, type(message)) for node, message in out]


def starts(out: Outbox) -> list[StartEngine]:
    return [message for _, message in out if isinstance(message, StartEngine)]


def fallen_back() -> Cluster:
    """Serves over zmq because tcp did not come up."""
    cluster = Cluster("ab")
    cluster.join_all()
    cluster.exit(0, "FormingFailed", "refused")
    cluster.tick(GRACE_S)
    cluster.tick()
    cluster.all_ready()
    assert (cluster.machine.state, cluster.machine.transport) == ("serving", "zmq")
    return cluster


def slow(cluster: Cluster, hop_ms: float) -> str:
    """What is noticed after many chunks whose hop from stage 0 to 1 took so long."""
    hops = [(0, 0, 1000), (1_000_000 + round(hop_ms * 1e6), 0, 1000)]
    timings = [ChunkTiming([(1, 9)], 1, False, 0, 0, hops)] * CHUNKS
    return cluster.machine.passed(timings, [0, 0])


def measured() -> Cluster:
    cluster = Cluster("ab")
    cluster.join_all()
    for rank in (0, 1):
        engine = cluster.machine.engines[rank]
        state = EngineState(engine.key, phases.LOAD, links=[LinkMeasure(1 - rank, 1e-3, 1e8)])
        cluster.machine.engine_state(engine.node, state, cluster.clock())
    cluster.all_ready()
    return cluster
