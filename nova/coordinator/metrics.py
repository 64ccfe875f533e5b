"""What Prometheus reads at /metrics. A registry of its own: nothing here is global.

Where vLLM (its V1 engine) has a metric of the same meaning, dashboards need only another name:

    nova_requests_running                 vllm:num_requests_running
    nova_requests_waiting                 vllm:num_requests_waiting
    nova_requests_total{outcome}          vllm:request_success_total{finished_reason}
    nova_prompt_tokens_total              vllm:prompt_tokens_total
    nova_cached_prompt_tokens_total       vllm:prefix_cache_hits_total
    nova_generation_tokens_total          vllm:generation_tokens_total
    nova_time_to_first_token_seconds      vllm:time_to_first_token_seconds
    nova_time_per_output_token_seconds    vllm:request_time_per_output_token_seconds
    nova_inter_token_seconds              vllm:inter_token_latency_seconds
    nova_request_seconds                  vllm:e2e_request_latency_seconds
    nova_queue_seconds                    vllm:request_queue_time_seconds
    nova_kv_cache_usage_ratio{node}       vllm:kv_cache_usage_perc

The labels are of closed sets: outcomes, the deployment's nodes and stages, transports.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nova.coordinator.links import one_way_ns
from nova.wire.work import ChunkTiming

FIRST_TOKEN = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
PER_TOKEN = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
WHOLE = (0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0)
ON_THE_WAY = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds in seconds. From a local link's microseconds to a long text's minutes."""

COMPLETED = ("stop", "length", "cancelled", "embedded")
OUTCOMES = (*COMPLETED, "abandoned", "invalid", "too_long", "busy", "deadline", "unavailable", "lost")
"""How a request ends: completed, given up by its client, or by the code of Failed."""

BUSY_S = 10
"""The span of `nova_stage_busy_ratio`, in whole seconds."""


@dataclass(frozen=True)
class State:
    """What is true at this moment. `kv` is each node's share of its budget that requests have reserved."""

    running: int
    waiting: int
    serving: bool
    generation: int
    kv: Mapping[str, float]


class Metrics:
    """`nodes` are the deployment's, in pipeline order, until `placed` says otherwise."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = list(nodes)
        self._busy: deque[tuple[int, list[int]]] = deque(maxlen=BUSY_S + 1)
        self._registry = here = CollectorRegistry()
        self._running = Gauge("nova_requests_running", "Requests that are worked on.", registry=here)
        self._waiting = Gauge("nova_requests_waiting", "Requests that wait for memory or for a place.", registry=here)
        self._up = Gauge("nova_up", "1 while the deployment serves.", registry=here)
        self._generation = Gauge("nova_generation", "How many times a group was formed.", registry=here)
        self._kv = Gauge(
            "nova_kv_cache_usage_ratio", "Share of a node's KV budget that requests have reserved.", ["node"],
            registry=here,
        )  # fmt: skip
        self._stage = Gauge(
            "nova_stage_busy_ratio", f"Share of the last {BUSY_S} s that a stage computed.", ["stage", "node"],
            registry=here,
        )  # fmt: skip
        self._requests = Counter("nova_requests", "Requests by how they ended.", ["outcome"], registry=here)
        for outcome in OUTCOMES:
            self._requests.labels(outcome)  # so that a rate is known from the first one on
        self._prompt = Counter("nova_prompt_tokens", "Tokens of prompts that were read.", registry=here)
        self._cached = Counter(
            "nova_cached_prompt_tokens", "Those of them that the prefix cache had.", registry=here
        )  # fmt: skip
        self._tokens = Counter("nova_generation_tokens", "Tokens that were generated.", registry=here)
        self._bytes = Counter(
            "nova_transport_bytes", "Bytes of hidden states sent between stages.", ["transport"], registry=here
        )
        self._first = _seconds("nova_time_to_first_token_seconds", "From a request's arrival.", FIRST_TOKEN, here)
        self._each = _seconds(
            "nova_time_per_output_token_seconds", "Mean of a request, without its first token.", PER_TOKEN, here
        )
        self._between = _seconds("nova_inter_token_seconds", "Between two tokens of a request.", PER_TOKEN, here)
        self._whole = _seconds("nova_request_seconds", "From a request's arrival to its end.", WHOLE, here)
        self._queued = _seconds("nova_queue_seconds", "From a request's arrival to its beginning.", WHOLE, here)
        self._hop = Histogram(
            "nova_hop_seconds", "A chunk's way from a stage to the next; from the last one, of token ids to the first.",
            ["hop"], buckets=ON_THE_WAY, registry=here,
        )  # fmt: skip

    def begun(self, queued_s: float) -> None:
        self._queued.observe(queued_s)

    def first_token(self, seconds: float) -> None:
        self._first.observe(seconds)

    def prompt(self, tokens: int, cached: int) -> None:
        """A prompt has been read."""
        self._prompt.inc(tokens)
        self._cached.inc(cached)

    def token(self, after_s: float | None) -> None:
        """`after_s` is the time since the request's token before; None for its first."""
        self._tokens.inc()
        if after_s is not None:
            self._between.observe(after_s)

    def ended(self, outcome: str, seconds: float, per_token_s: float | None = None) -> None:
        """One of OUTCOMES. How long it took counts where the client has got what it asked for."""
        self._requests.labels(outcome).inc()
        if outcome in COMPLETED:
            self._whole.observe(seconds)
        if outcome in COMPLETED and per_token_s is not None:
            self._each.observe(per_token_s)

    def crossed(self, timing: ChunkTiming, transport: str, offsets_ns: Sequence[int], now: float) -> None:
        """A chunk has passed all stages; offsets are each node's clock minus ours."""
        stages = len(self._nodes)
        second = int(now)
        if not self._busy or self._busy[-1][0] != second:
            self._busy.append((second, [0] * stages))
        for stage, (_, _, compute_us) in enumerate(timing.hops):
            self._busy[-1][1][stage] += compute_us
        if stages == 1:
            return
        self._bytes.labels(transport).inc(timing.nbytes * (stages - 1))
        for rank, taken in one_way_ns(timing, offsets_ns).items():
            self._hop.labels(f"{rank}-{(rank + 1) % stages}").observe(max(0.0, taken / 1e9))

    def placed(self, nodes: Sequence[str]) -> None:
        """From here on these nodes have the stages; of those before nothing is said any more."""
        if list(nodes) != self._nodes:
            self._nodes = list(nodes)
            self._busy.clear()
            self._stage.clear()
            self._kv.clear()

    def busy(self, now: float) -> list[float]:
        """Each stage's share of the last `BUSY_S` whole seconds, at most 1."""
        last = int(now)
        recent = [sums for second, sums in self._busy if last - BUSY_S <= second < last]
        return [min(1.0, sum(sums[stage] for sums in recent) / 1e6 / BUSY_S) for stage in range(len(self._nodes))]

    def render(self, state: State, now: float) -> bytes:
        """Everything in Prometheus' text format."""
        self._running.set(state.running)
        self._waiting.set(state.waiting)
        self._up.set(state.serving)
        self._generation.set(state.generation)
        for node, share in state.kv.items():
            self._kv.labels(node).set(share)
        for stage, (node, share) in enumerate(zip(self._nodes, self.busy(now), strict=True)):
            self._stage.labels(str(stage), node).set(share)
        return generate_latest(self._registry)


def _seconds(name: str, what: str, bounds: Sequence[float], registry: CollectorRegistry) -> Histogram:
    return Histogram(name, what, buckets=bounds, registry=registry)
