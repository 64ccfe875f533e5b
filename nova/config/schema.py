"""Every option of a node: type, default, unit and help, in one place.

`conf/nova.toml` is printed from these structs and a test holds them equal. Configuration is read once, checked,
frozen and passed in; nothing reads it from a global.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z"
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration file."""


class Control(Section, frozen=True):
    """The control plane (ZeroMQ, CURVE)."""

    address: Annotated[str, Meta(description="host:port of the coordinator; it listens there, all others dial it")] = (
        "127.0.0.1:29200"
    )
    coordinator: Annotated[Name, Meta(description="name under which the coordinator's key is trusted")] = "coordinator"
    heartbeat_s: Annotated[Seconds, Meta(description="s; pause between two heartbeats")] = 0.5
    dead_after_s: Annotated[Seconds, Meta(description="s; silence after which a peer counts as dead")] = 2.0
    reconnect_s: Annotated[Seconds, Meta(description="s; first pause before dialling again, grows with jitter")] = 0.2
    reconnect_max_s: Annotated[Seconds, Meta(description="s; longest pause before dialling again")] = 5.0


class Engine(Section, frozen=True):
    """The child process that holds a stage of the model."""

    start_s: Annotated[Seconds, Meta(description="s; limit from process start to its first message")] = 60.0
    open_s: Annotated[
        Seconds, Meta(description="s; limit for loading a transport and opening it; the coordinator's counts")
    ] = 10.0
    join_s: Annotated[
        Seconds, Meta(description="s; limit for joining and verifying a group; the coordinator's counts")
    ] = 5.0
    load_s: Annotated[Seconds, Meta(description="s; limit for loading a stage's layers")] = 600.0
    stop_s: Annotated[Seconds, Meta(description="s; an engine asked to stop is killed after this")] = 3.0
    silent_s: Annotated[Seconds, Meta(description="s; an engine without a heartbeat for this long is killed")] = 10.0
    transfer_s: Annotated[Seconds, Meta(description="s; limit for one tensor to be sent; the coordinator's counts")] = (
        30.0
    )
    step_s: Annotated[Seconds, Meta(description="s; an engine that computes one chunk for this long is killed")] = 300.0
    prefill_chunk: Annotated[
        int, Meta(ge=1, description="tokens; a prompt crosses the stages in pieces of this; the coordinator's counts")
    ] = 2048
    prefill_min: Annotated[
        int,
        Meta(ge=1, description="tokens; a prompt below this is not cut in pieces; the coordinator's counts"),
    ] = 256
    tbt_factor: Annotated[
        float, Meta(gt=1, description="how many times slower tokens may come while another prompt is read")
    ] = 2.0
    kv_bits: Annotated[
        Literal[0, 4, 8],
        Meta(description="bits of quantised KV caches, 0 for none; the coordinator's counts"),
    ] = 0
    kv_bytes: Annotated[int, Meta(ge=0, description="bytes; of a node for all KV caches; 0 takes engine.kv_share")] = 0
    kv_share: Annotated[
        float,
        Meta(gt=0, lt=1, description="share of the memory free once weights are loaded, for KV caches"),
    ] = 0.5
    prefix_share: Annotated[
        float, Meta(ge=0, lt=1, description="share of that for the caches of requests that have ended; 0 keeps none")
    ] = 0.25
    max_tensor_bytes: Annotated[int, Meta(ge=1024, description="bytes; largest tensor accepted from a peer")] = 1 << 30
    cpu_blas: Annotated[
        str, Meta(description="Linux: BLAS preloaded into engines: auto, off, blis, openblas, or a library's path")
    ] = "auto"
    threads: Annotated[int, Meta(ge=0, description="CPU threads of the BLAS; 0 is one for each CPU of the engine")] = 0
    cpus: Annotated[list[int], Meta(description="Linux: CPU numbers that engines are pinned to; empty is all")] = []


class Transport(Section, frozen=True):
    """The data plane between engines. What may be used is the coordinator's to say; a node offers what it allows."""

    order: Annotated[
        list[str], Meta(description="transports, best first; what else is allowed comes after these, cheapest first")
    ] = msgspec.field(default_factory=lambda: ["jaccl", "tcp", "zmq", "ring"])
    allow: Annotated[list[str], Meta(description="transports that may be used; empty allows those in order")] = []
    deny: Annotated[list[str], Meta(description="transports that may not, whatever the other lists say")] = []
    side: Annotated[
        list[str], Meta(description="transports that may carry the headers of one that moves only arrays, best first")
    ] = msgspec.field(default_factory=lambda: ["tcp", "zmq"])
    security: Annotated[
        Literal["none", "authenticated", "encrypted"], Meta(description="what a link must be, unless it is trusted")
    ] = "authenticated"
    trusted: Annotated[
        list[str], Meta(description="networks without strangers: loopback, thunderbolt (a cable), or as 192.168.2.0/24")
    ] = msgspec.field(default_factory=lambda: ["loopback", "thunderbolt"])
    hosts: Annotated[
        list[str],
        Meta(min_length=1, description="addresses or names of this node that the other engines can dial, best first"),
    ] = msgspec.field(default_factory=lambda: ["127.0.0.1"])
    probe_s: Annotated[Seconds, Meta(description="s; limit for a transport to say what it can do here")] = 10.0
    hold_s: Annotated[
        Seconds, Meta(description="s; a transport that failed between these nodes is held back, doubling each time")
    ] = 10.0
    hold_max_s: Annotated[Seconds, Meta(description="s; longest such pause")] = 600.0
    slow_factor: Annotated[
        float, Meta(ge=0, description="a link so many times slower than when it was verified is reported; 0 never")
    ] = 5.0
    reform: Annotated[
        bool, Meta(description="form anew over a better transport, between requests, when a link has become slow")
    ] = True
    options: Annotated[
        dict[str, dict[str, Any]], Meta(description="options per plugin, as in [transport.options.tcp]")
    ] = {}

    @property
    def allowed(self) -> list[str]:
        """Every transport that may be used, `order` first."""
        names = [*self.order, *self.allow] if self.allow else self.order
        permitted = set(self.allow or self.order) - set(self.deny)
        return [name for name in dict.fromkeys(names) if name in permitted]


class Deployment(Section, frozen=True):
    """What the coordinator serves. Workers leave this table out."""

    model: Annotated[
        str, Meta(description="folder, name in $NOVA_HOME/models, hub id, or emulated:PROFILE; empty serves nothing")
    ] = ""
    nodes: Annotated[
        list[Name], Meta(max_length=16, description="nodes in pipeline order; the first embeds, the last samples")
    ] = []
    concurrent: Annotated[int, Meta(ge=1, description="requests that are worked on at once, memory allowing")] = 32
    max_tokens: Annotated[int, Meta(ge=1, description="most tokens of a request that does not say")] = 4096
    queued: Annotated[int, Meta(ge=0, description="requests that may wait; more are refused at once")] = 64
    wait_s: Annotated[
        Seconds, Meta(description="s; a request waits this long for a deployment that does not serve")
    ] = 120.0
    retry_s: Annotated[Seconds, Meta(description="s; first pause before a failed deployment is formed anew")] = 1.0
    retry_max_s: Annotated[Seconds, Meta(description="s; longest such pause; it doubles with every failure")] = 60.0
    split: Annotated[list[int], Meta(description="layers per node, in the same order; empty splits evenly")] = []


class Plan(Section, frozen=True):
    """Where the model's layers go: as deployment.split says, or as the coordinator plans from what it measures. Then
    deployment.nodes are those that may be used. Workers leave this table out."""

    strategy: Annotated[
        Literal["manual", "auto", "latency", "throughput", "speculative", "spread", "memory"],
        Meta(description="manual takes deployment.nodes and split as they stand; auto plans for plan.prefer"),
    ] = "manual"
    prefer: Annotated[
        Literal["stream", "many", "speculative"],
        Meta(description="what auto plans for: one text's pace, that of all together, or one text's with guesses"),
    ] = "stream"
    context: Annotated[int, Meta(ge=1, description="tokens; texts of this length must fit in memory")] = 4096
    batch: Annotated[int, Meta(ge=1, description="so many of them at once must fit, and are planned for")] = 1
    acceptance: Annotated[
        float, Meta(ge=0, lt=1, description="probability that a guessed token is right, where guesses are planned for")
    ] = 0.7
    head_room: Annotated[
        float, Meta(ge=0, lt=1, description="share of a node's usable memory that the plan leaves free")
    ] = 0.1
    min_layers: Annotated[int, Meta(ge=1, description="layers that `spread` gives a node at least")] = 1
    pin: Annotated[list[Name], Meta(description="nodes that get a stage even if none is better without them")] = []
    exclude: Annotated[list[Name], Meta(description="nodes of deployment.nodes that get none")] = []
    rebalance: Annotated[
        Literal["off", "suggest", "auto"],
        Meta(description="when measured times give a better plan: say so, or also act on it between requests"),
    ] = "suggest"


class Api(Section, frozen=True):
    """HTTP on the coordinator: the OpenAI and Anthropic APIs, metrics, health."""

    listen: Annotated[str, Meta(description="host:port; empty serves no HTTP")] = "127.0.0.1:29280"
    keys: Annotated[
        list[str], Meta(description="keys that may use it, as `nova keys api` prints them; none are needed if empty")
    ] = []
    open: Annotated[bool, Meta(description="without keys, other addresses than loopback may be used")] = False
    cors: Annotated[list[str], Meta(description="origins whose pages may use it, as https://chat.example")] = []
    tls_certificate: Annotated[str, Meta(description="PEM file; empty speaks plain HTTP")] = ""
    tls_key: Annotated[str, Meta(description="PEM file of its private key")] = ""
    max_body_bytes: Annotated[int, Meta(ge=1024, description="bytes; a larger request gets 413")] = 8 << 20
    concurrent: Annotated[int, Meta(ge=1, description="requests in progress; more get 429")] = 512
    request_s: Annotated[Seconds, Meta(description="s; a request that takes longer is ended")] = 600.0
    otlp: Annotated[str, Meta(description="OpenTelemetry collector, as http://127.0.0.1:4318; empty for none")] = ""


class Log(Section, frozen=True):
    """Logs go to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least level that is written")] = (
        "info"
    )
    format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines")] = "text"


class NodeConfig(Section, frozen=True):
    """One `nova-node` daemon."""

    name: Annotated[str, Meta(description="this node's name, the name of its key; empty takes the host's name")] = ""
    role: Annotated[Literal["worker", "coordinator"], Meta(description="one coordinator per cluster")] = "worker"
    home: Annotated[str, Meta(description="keys, models and run files; empty takes $NOVA_HOME or ~/.cache/nova")] = ""
    control: Control = Control()
    engine: Engine = Engine()
    transport: Transport = Transport()
    deployment: Deployment = Deployment()
    plan: Plan = Plan()
    api: Api = Api()
    log: Log = Log()
