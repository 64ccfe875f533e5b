"""Every control message, typed and frozen. A field of the wrong type or an unknown field is a protocol error.

    session      Hello -> Welcome | Refused;  Heartbeat both ways;  Goodbye;  a worker's Offers, when they change
    engine       coordinator -> daemon: StartEngine, StopEngine     daemon -> coordinator: EngineExited
                 engine -> daemon -> coordinator: EngineState, Gather, Tokens
                 coordinator -> daemon -> engine: Gathered, Begin, Cancel
    client       Generate -> Accepted, Piece ..., Completed | Failed;  Abandon
                 StatusQuery -> StatusReply;  ExplainQuery -> ExplainReply;  CheckQuery -> CheckReply | Failed

Times are seconds unless a name ends in _ns, _us or _ms; sizes are bytes.
"""

from __future__ import annotations

import msgspec

from nova.wire.values import (
    AttemptReport,
    CandidateReport,
    EngineKey,
    EngineSpec,
    EngineStatus,
    LinkMeasure,
    NodeFacts,
    NodeStatus,
    RankResult,
    Sampling,
    Share,
    StageShare,
    TokenTiming,
    TransportOffer,
)


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
    `links` has what was measured.
    """

    engine: EngineKey
    phase: str
    pid: int = 0
    detail: str = ""
    weight_bytes: int = 0
    memory_bytes: int = 0
    error: str = ""
    links: list[LinkMeasure] = []


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
    """To the driver: generate. `stream` names the request inside the group."""

    engine: EngineKey
    stream: int
    prompt: list[int]
    max_tokens: int
    stop_tokens: list[int]
    sampling: Sampling


class Cancel(Message, frozen=True):
    engine: EngineKey
    stream: int


class Tokens(Message, frozen=True):
    """From the driver: tokens in order. `finish` is "" while it goes on, else "stop", "length" or "cancelled"."""

    engine: EngineKey
    stream: int
    tokens: list[int]
    finish: str = ""
    timings: list[TokenTiming] = []


# --- clients --------------------------------------------------------------------------------------------------------


class Generate(Message, frozen=True):
    """Ask for text. `chat` applies the model's chat template to the prompt as one user message."""

    request: str
    prompt: str
    max_tokens: int
    sampling: Sampling
    chat: bool = False
    deadline_s: float = 3600.0


class Abandon(Message, frozen=True):
    """The client no longer wants the request."""

    request: str


class Accepted(Message, frozen=True):
    request: str
    prompt_tokens: int


class Piece(Message, frozen=True):
    """Text as it comes: the tokens sampled since the last piece, and what they add to the text."""

    request: str
    tokens: list[int]
    text: str


class Completed(Message, frozen=True):
    """The end of a request and its account."""

    request: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    prefill_tok_s: float
    decode_tok_s: float
    transport: str
    stages: list[StageShare]
    breakdown: list[Share]


class Failed(Message, frozen=True):
    """The request is lost; `reason` names what died or was wrong. `tokens_sent` came before that."""

    request: str
    reason: str
    tokens_sent: int = 0


class StatusQuery(Message, frozen=True):
    request: str


class StatusReply(Message, frozen=True):
    """The whole cluster at one moment. `state` is opening (the model), waiting (for nodes), forming, serving, failed
    or stopped; `reasons` says what has failed so far, oldest first."""

    request: str
    coordinator: str
    nova: str
    model: str
    state: str
    transport: str
    generation: int
    rejected: dict[str, str]
    nodes: list[NodeStatus]
    engines: list[EngineStatus]
    counters: dict[str, int]
    reasons: list[str] = []


class ExplainQuery(Message, frozen=True):
    request: str


class ExplainReply(Message, frozen=True):
    """Why this transport: every candidate with its verdict, every attempt of late, oldest first, and why it does not
    serve, "" where it does."""

    request: str
    state: str
    nodes: list[str]
    transport: str
    candidates: list[CandidateReport]
    attempts: list[AttemptReport]
    why_not: str = ""


class CheckQuery(Message, frozen=True):
    """Run one case of the conformance kit, its rank r on `nodes[r]`, and give it up after `limit_s`."""

    request: str
    transport: str
    case: str
    nodes: list[str]
    limit_s: float


class CheckReply(Message, frozen=True):
    """What came of a case, by rank."""

    request: str
    ranks: list[RankResult]


KINDS: dict[int, type[Message]] = {
    1: Hello, 2: Welcome, 3: Refused, 4: Heartbeat, 5: Goodbye, 6: Offers,
    10: StartEngine, 11: StopEngine, 12: EngineState, 13: EngineExited, 14: Gather, 15: Gathered,
    16: Begin, 17: Cancel, 18: Tokens,
    30: Generate, 31: Abandon, 32: Accepted, 33: Piece, 34: Completed, 35: Failed,
    36: StatusQuery, 37: StatusReply, 38: ExplainQuery, 39: ExplainReply, 40: CheckQuery, 41: CheckReply,
}  # fmt: skip
"""The wire code of every message; a code is never used again for another one (19 was)."""
