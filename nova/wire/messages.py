"""Every control message, typed and frozen. A field of the wrong type or an unknown field is a protocol error.

    session      Hello -> Welcome | Refused;  Heartbeat both ways;  Goodbye;  a worker's Offers, when they change
    engine       coordinator -> daemon: StartEngine, StopEngine     daemon -> coordinator: EngineExited
                 engine -> daemon -> coordinator: EngineState, Gather, Step, Pooled
                 coordinator -> daemon -> engine: Gathered, Begin, Cancel, Budget
    planning     coordinator -> daemon: Measure                     daemon -> coordinator: Measured

What clients say is in `nova.wire.requests`.

Times are seconds unless a name ends in _ns, _us or _ms; sizes are bytes.
"""

from __future__ import annotations

import msgspec

from nova.wire.plans import NodeProfile
from nova.wire.values import EngineKey, EngineSpec, KvCost, LinkMeasure, NodeFacts, TransportOffer
from nova.wire.work import ChunkTiming, Outcome, Sampling


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Root of all control messages."""


# --- session --------------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """First message of a session. `role` is "worker" or "client"; a worker's name must be its key's name."""

    name: str
    role: str
    nova: str
    facts: NodeFacts | None = None
    offers: list[TransportOffer] = []


class Welcome(Message, frozen=True):
    """The session stands; both sides send a heartbeat each `heartbeat_s`, silence of `dead_after_s` is death."""

    coordinator: str
    heartbeat_s: float
    dead_after_s: float


class Refused(Message, frozen=True):
    """The session is not wanted. `retry` says whether a fresh Hello may help."""

    reason: str
    retry: bool


class Heartbeat(Message, frozen=True):
    """Sent both ways. `echo_ns` returns the peer's last sent_ns and `held_ns` how long ago that one arrived,
    so that each side can measure the round trip and the offset between the two clocks. An engine also says for
    how long it has been computing one chunk, and for how long one call of its transport has lasted."""

    sent_ns: int
    echo_ns: int = 0
    held_ns: int = 0
    busy_ms: int = 0
    transfer_ms: int = 0


class Offers(Message, frozen=True):
    """A worker's transports have changed since its Hello: an address or a device came or went."""

    offers: list[TransportOffer]


class Goodbye(Message, frozen=True):
    """An orderly end: the peer is gone on purpose, at once."""

    reason: str


# --- engines --------------------------------------------------------------------------------------------------------


class StartEngine(Message, frozen=True):
    engine: EngineKey
    spec: EngineSpec


class StopEngine(Message, frozen=True):
    engine: EngineKey
    reason: str


class EngineState(Message, frozen=True):
    """Progress of an engine. `phase` is one of nova.wire.phases; `detail` is for people.

    In phase "failed" the detail is the reason and `error` the name of its class in nova.errors. After VERIFY
    `links` has what was measured, and when it is ready `kv` what requests cost.
    """

    engine: EngineKey
    phase: str
    pid: int = 0
    detail: str = ""
    weight_bytes: int = 0
    memory_bytes: int = 0
    error: str = ""
    links: list[LinkMeasure] = []
    kv: KvCost | None = None


class EngineExited(Message, frozen=True):
    """An engine process ended. `asked` is true when the daemon had been told to stop it; `error` is the class
    name of the failure that it reported itself, "" when it could not, and `suspect` then says whether its end speaks
    against its transport."""

    engine: EngineKey
    pid: int
    asked: bool
    reason: str
    phase: str
    error: str = ""
    log_tail: list[str] = []
    suspect: bool = False


class Gather(Message, frozen=True):
    """One rank's blob of an all-gather; the coordinator answers every rank at once when it has them all."""

    engine: EngineKey
    round: int
    blob: bytes


class Gathered(Message, frozen=True):
    engine: EngineKey
    round: int
    blobs: list[bytes]


class Begin(Message, frozen=True):
    """To the driver: generate. `stream` names the request inside the group, and is never used again.

    `grammar` (llguidance's JSON form, "" for none) is what the text must keep to. `pool` asks for no text but for one
    vector of the prompt: the "mean" of the last hidden states, after the norm, or that of the "last" position.
    """

    engine: EngineKey
    stream: int
    prompt: list[int]
    max_tokens: int
    stop_tokens: list[int]
    sampling: Sampling
    grammar: str = ""
    pool: str = ""


class Cancel(Message, frozen=True):
    engine: EngineKey
    stream: int


class Budget(Message, frozen=True):
    """To the driver, once all engines are ready: so many positions may be kept for requests that have ended, so that
    later ones with the same beginning need not compute them again. No stage has room for more. `trimmable` says
    whether every stage can cut caches back, so that a part of a kept text is of use too."""

    engine: EngineKey
    prefix_tokens: int
    trimmable: bool


class Step(Message, frozen=True):
    """From the driver: a chunk has crossed all stages (`timing`), and what it brought to its requests. Without a
    timing it tells of a request that ended without a chunk. `failed` maps requests to why they cannot go on."""

    engine: EngineKey
    outcomes: list[Outcome]
    timing: ChunkTiming | None = None
    failed: dict[int, str] = {}


class Pooled(Message, frozen=True):
    """From the driver: the vector that a request with `pool` asked for, as float32, little endian."""

    engine: EngineKey
    stream: int
    vector: bytes
    timing: ChunkTiming | None = None


# --- planning -------------------------------------------------------------------------------------------------------


class Measure(Message, frozen=True):
    """To a node: say what you can do with this model, named as in the deployment's configuration. `request` comes back
    with the answer."""

    request: str
    model: str


class Measured(Message, frozen=True):
    """The profile, or why there is none."""

    request: str
    profile: NodeProfile | None = None
    reason: str = ""
