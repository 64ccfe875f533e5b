"""The values inside control messages, typed and frozen like these.

Times are seconds unless a name ends in _ns, _us or _ms; sizes are bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Root of all values."""


class NodeFacts(Record, frozen=True):
    """What a machine is. `boot_id` is equal for two nodes exactly when they share a monotonic clock."""

    host: str
    system: str
    arch: str
    cpu: str
    cores: int
    memory_bytes: int
    boot_id: str
    python: str
    nova: str
    mlx: str


class AttachmentOffer(Record, frozen=True):
    """One way a node is attached: see `nova.transport.api.Attachment`."""

    domain: str
    address: str
    latency_s: float
    bandwidth_bytes_s: float
    interface: str = ""


class TransportOffer(Record, frozen=True):
    """A transport as one node offers it: either `unavailable` says why not, or the rest is filled in."""

    name: str
    version: str = ""
    api: tuple[int, int] = (0, 0)
    caps: list[str] = []
    attachments: list[AttachmentOffer] = []
    collectives: list[str] = []
    alike: dict[str, str] = {}
    unavailable: str | None = None


class EngineKey(Record, frozen=True):
    """Names one engine: the group, the generation of that group, and the rank in it."""

    group: str
    generation: int
    rank: int


class EngineSpec(Record, frozen=True):
    """All that an engine needs to take its place in a group.

    `hosts` are the addresses of its node that the transport may use, best first. `side` names the transport that
    carries headers where `transport` moves arrays only, "" where it moves bytes. `check` names a case of the
    conformance kit, which the engine runs instead of serving. The last ones are options of `engine` in the
    coordinator's configuration (`nova.config.schema`).
    """

    model: str
    first_layer: int
    last_layer: int
    layers: int
    size: int
    transport: str
    options: dict[str, Any]
    ticket: bytes
    start_s: float
    open_s: float
    join_s: float
    load_s: float
    transfer_s: float
    prefill_chunk: int
    max_tensor_bytes: int
    hosts: list[str] = []
    side: str = ""
    side_options: dict[str, Any] = {}
    side_hosts: list[str] = []
    check: str = ""
    kv_bits: int = 0
    kv_bytes: int = 0
    kv_share: float = 0.5
    prefill_min: int = 256
    tbt_factor: float = 2.0


class KvCost(Record, frozen=True):
    """What one request's caches take on one stage, in bytes: `fixed` and `per_token` for each position; `budget` is
    what the node has for all of them. `trimmable` says whether a cache can be cut back to an earlier position."""

    fixed: int
    per_token: int
    budget: int
    trimmable: bool = True


class StageShare(Record, frozen=True):
    """One stage in a report. `layers` counts them; `ms` is the mean compute of a decode step."""

    node: str
    first_layer: int
    layers: int
    ms: float


class Share(Record, frozen=True):
    """One row of the breakdown: where a token's time went, mean over the decode steps."""

    name: str
    ms: float
    share: float


class EngineStatus(Record, frozen=True):
    engine: EngineKey
    node: str
    phase: str
    pid: int
    first_layer: int
    layers: int
    weight_bytes: int
    memory_bytes: int
    detail: str
    log_tail: list[str]


class NodeStatus(Record, frozen=True):
    name: str
    state: str
    heartbeat_age_s: float
    rtt_ms: float
    memory_bytes: int
    facts: NodeFacts | None
    transports: list[TransportOffer]


class LinkMeasure(Record, frozen=True):
    """One rank's link to its right neighbour, as VERIFY measured it: one way, and sustained."""

    peer: int
    latency_s: float
    bandwidth_bytes_s: float


class LinkReport(Record, frozen=True):
    """A link of the present group. `recent_s` is the median one-way time of late, 0 before anything has crossed it."""

    source: str
    target: str
    latency_s: float
    bandwidth_bytes_s: float
    recent_s: float = 0.0


class CandidateReport(Record, frozen=True):
    """A transport as the last selection judged it. `verdict` is chosen, possible, held or rejected; `cost_s` is the
    expected time of a message of the model's hidden size on the worst link, `measured` whether by VERIFY."""

    name: str
    verdict: str
    reason: str = ""
    cost_s: float = 0.0
    measured: bool = False
    side: str = ""


class PhaseTime(Record, frozen=True):
    """How long an attempt was in a phase: until its last engine left it."""

    phase: str
    seconds: float


class AttemptReport(Record, frozen=True):
    """One generation, or a trial, which are numbered apart. `outcome` is forming, serving, failed or ended; `phase` and
    `cause` say where it failed, and why."""

    generation: int
    transport: str
    side: str
    ago_s: float
    seconds: float
    outcome: str
    phase: str = ""
    cause: str = ""
    phases: list[PhaseTime] = []
    links: list[LinkReport] = []
    trial: bool = False


class RankResult(Record, frozen=True):
    """One rank of a case. `result` is a `nova.testing.report.CaseResult` as JSON, "" where its engine ended without
    one; `ended` says how it ended."""

    node: str
    result: str
    ended: str
