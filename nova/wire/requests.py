"""What clients of the coordinator say and hear, over a session or from inside its process.

Generate -> Accepted, Piece ..., Completed | Embedded | Failed;  Abandon
StatusQuery -> StatusReply;  ExplainQuery -> ExplainReply;  CheckQuery -> CheckReply | Failed
TraceQuery -> TraceReply | Failed;  PlanQuery -> PlanReply | Failed
"""

from __future__ import annotations

from nova.wire.messages import Message
from nova.wire.plans import PlanReport
from nova.wire.values import (
    AttemptReport,
    CandidateReport,
    EngineStatus,
    NodeStatus,
    RankResult,
    Share,
    StageShare,
)
from nova.wire.work import ChunkTiming, Sampling, TokenLogprob


class Generate(Message, frozen=True):
    """Ask for text. `prompt` is text, or tokens as they are; `chat` applies the model's chat template to a text as one
    user message. `max_tokens` 0 takes the deployment's default, or what the context leaves. The text ends before any
    of `stop` and at `stop_tokens`, and at the model's own end of text unless `ignore_eos`. `grammar` and `pool` are
    `nova.wire.messages.Begin`'s; with `pool` the answer is Embedded.
    """

    request: str
    prompt: str | list[int]
    max_tokens: int
    sampling: Sampling
    chat: bool = False
    deadline_s: float = 3600.0
    stop: list[str] = []
    stop_tokens: list[int] = []
    ignore_eos: bool = False
    grammar: str = ""
    pool: str = ""


class Abandon(Message, frozen=True):
    """The client no longer wants the request."""

    request: str


class Accepted(Message, frozen=True):
    request: str
    prompt_tokens: int


class Piece(Message, frozen=True):
    """Text as it comes: the tokens sampled since the last piece, and what they add to the text. The start of a
    character, or of a stop string, is held back until it is certain."""

    request: str
    tokens: list[int]
    text: str
    logprobs: list[TokenLogprob] = []


class Completed(Message, frozen=True):
    """The end of a request and its account. `finish` is "stop", "length" or "cancelled"; `stopped_by` is the stop
    string that ended it, "" for a stop token. `cached_tokens` of the prompt were not computed anew."""

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
    cached_tokens: int = 0
    stopped_by: str = ""
    queued_s: float = 0.0


class Embedded(Message, frozen=True):
    """The end of a request with `pool`: its vector, float32, little endian."""

    request: str
    vector: bytes
    prompt_tokens: int


class Failed(Message, frozen=True):
    """The request is lost; `reason` names what died or was wrong. `tokens_sent` came before that.

    `code` is for programs: "invalid" (the request), "too_long" (for the context), "busy" (try again in about
    `retry_after_s`), "deadline", "unavailable" (the deployment does not serve) or "lost" (it broke on the way).
    """

    request: str
    reason: str
    tokens_sent: int = 0
    code: str = "lost"
    retry_after_s: float = 0.0


class StatusQuery(Message, frozen=True):
    request: str


class StatusReply(Message, frozen=True):
    """The whole cluster at one moment. `state` is opening (the model), waiting (for nodes), planning, forming, serving,
    failed or stopped; `reasons` says what has failed so far, oldest first. `plan` is what the layers were placed by, if
    they were planned; `deviations` says where its prediction is off, and whether another one would be better."""

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
    plan: PlanReport | None = None
    deviations: list[str] = []


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


class TraceQuery(Message, frozen=True):
    """Ask for every chunk of a request, by its id; "" is the request that ended last."""

    request: str
    target: str = ""


class TraceReply(Message, frozen=True):
    """What is kept of a request: its chunks, and those that crossed the same stages meanwhile, oldest first.

    `streams` maps a request's name to the number that it has in the chunks; `offsets_ns` is each node's clock minus
    the coordinator's, in the order of `nodes`, which is that of the stages. So many of the oldest chunks are `omitted`,
    since the answer would be too long with them.
    """

    request: str
    target: str
    nodes: list[str]
    offsets_ns: list[int]
    transport: str
    streams: dict[str, int]
    chunks: list[ChunkTiming]
    omitted: int = 0


class PlanQuery(Message, frozen=True):
    """Plan for the nodes of the deployment, and change nothing. What is left at its default is as the coordinator's
    configuration says; `model` "" is the one that is deployed. `manual` is for that strategy: (node, layers) in the
    pipeline's order. `measured` takes the times of the group that serves in place of those that its nodes' profiles
    give."""

    request: str
    model: str = ""
    strategy: str = ""
    context: int = 0
    batch: int = 0
    prompt: int = 0
    acceptance: float | None = None
    pinned: list[str] = []
    excluded: list[str] = []
    manual: list[tuple[str, int]] = []
    measured: bool = False


class PlanReply(Message, frozen=True):
    request: str
    report: PlanReport
