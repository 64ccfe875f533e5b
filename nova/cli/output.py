"""What commands print as JSON. Each is one object; `nova schema NAME` prints its JSON Schema.

Fields are only ever added. Times are seconds, unless a name ends in _ms; sizes are bytes.
"""

from __future__ import annotations

import sys

import msgspec

from nova.testing.report import Report
from nova.transport.manual import Option
from nova.wire.plans import PlanReport
from nova.wire.values import (
    AttachmentOffer,
    AttemptReport,
    CandidateReport,
    EngineStatus,
    NodeStatus,
    Share,
    StageShare,
)


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """Root of all outputs."""


class Text(Output, frozen=True, kw_only=True):
    """`nova run --json` and `nova generate --json`. `tokens` holds the stop token, when one ended the text.

    `error` is "" unless the text was cut off, and then says what died; the exit status is 1, `finish` is "error",
    and what the account at the end would have told is 0 or empty.
    """

    text: str
    tokens: list[int]
    finish: str
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    prefill_tok_s: float
    decode_tok_s: float
    transport: str
    stages: list[StageShare]
    breakdown: list[Share]
    error: str = ""


class Status(Output, frozen=True, kw_only=True):
    """`nova status --json`. `plan` is what the layers were placed by, null where they were not planned; `deviations`
    says where its prediction is off, and whether another one would be better."""

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
    reasons: list[str]
    plan: PlanReport | None = None
    deviations: list[str] = []


class Explanation(Output, frozen=True, kw_only=True):
    """`nova explain --json`. `attempts` are oldest first; one that began `ago_s` seconds ago took `seconds` so far.
    `why_not` says why the deployment does not serve, "" when it does."""

    state: str
    nodes: list[str]
    transport: str
    candidates: list[CandidateReport]
    attempts: list[AttemptReport]
    why_not: str = ""


class Plugin(Output, frozen=True, kw_only=True):
    """One transport. `state` is loaded, unavailable (here, by its own word or its probe's end), refused (by Nova) or
    missing (allowed, and not installed); `reason` says why. `targets` are its entry points: more than one are too many.
    """

    name: str
    state: str
    reason: str
    targets: list[str]
    distributions: list[str]
    version: str = ""
    api: tuple[int, int] = (0, 0)
    caps: list[str] = []
    attachments: list[AttachmentOffer] = []
    collectives: list[str] = []
    alike: dict[str, str] = {}
    options: list[Option] = []


class Transports(Output, frozen=True, kw_only=True):
    """`nova transports --json`. `hosts` are this node's addresses for peers, `problems` its wrong settings."""

    hosts: list[str]
    problems: list[str]
    plugins: list[Plugin]


class Scaffold(Output, frozen=True, kw_only=True):
    """`nova transports new --json`. `files` are relative to `folder`."""

    name: str
    folder: str
    files: list[str]


class Checked(Output, frozen=True, kw_only=True):
    """`nova transports check --json`. `nodes` are those of --on, none for processes of this machine."""

    nodes: list[str]
    report: Report


class Keys(Output, frozen=True, kw_only=True):
    """`nova keys ... --json`: our own public keys and those we trust, by name."""

    own: dict[str, str]
    trusted: dict[str, str]


class ApiKey(Output, frozen=True, kw_only=True):
    """`nova keys api --json`. `key` is for the client and is not kept; `hash` is for api.keys of the coordinator."""

    name: str
    key: str
    hash: str


class Serving(Output, frozen=True, kw_only=True):
    """`nova serve --json`, once it serves. `url` is that of the HTTP API, without /v1; `control` is the coordinator's
    address and `home` its home, for the other commands."""

    url: str
    model: str
    nodes: list[str]
    transport: str
    keys: int
    control: str
    home: str


class Answer(Output, frozen=True, kw_only=True):
    """`nova chat --json`: one object in one line for each message. `ttft_s` is until the first text, reasoning
    included; `tok_s` counts from there. `error` is "" unless the answer was cut off, or did not come."""

    text: str
    reasoning: str
    finish: str
    model: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_s: float
    tok_s: float
    error: str = ""


class Busy(Output, frozen=True, kw_only=True):
    """The share of a trace's time in which a stage computed."""

    stage: int
    node: str
    busy: float


class Trace(Output, frozen=True, kw_only=True):
    """`nova trace --json`. `seconds` are from the request's first chunk to its last token; `chunks` counts those of
    the file, `omitted` those before them that the coordinator left out because there were too many; `bottleneck` is
    the stage that computed longest."""

    request: str
    file: str
    seconds: float
    chunks: int
    stages: list[Busy]
    bottleneck: int
    omitted: int = 0


class Model(Output, frozen=True, kw_only=True):
    """`nova model ... --json`."""

    name: str
    folder: str
    model_type: str
    layers: int
    hidden_size: int
    vocab_size: int
    weight_bytes: int


class Problem(Output, frozen=True, kw_only=True):
    """What a command prints instead when it could not do its work, not even in part; its exit status is then not 0."""

    error: str


def emit(output: Output, compact: bool = False) -> None:
    """One object on standard output; in one line where more of them follow."""
    encoded = msgspec.json.encode(output)
    sys.stdout.write((encoded if compact else msgspec.json.format(encoded)).decode() + "\n")
    sys.stdout.flush()
