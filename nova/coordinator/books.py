"""What is written down of requests while they run: metrics, traces, and how long they took. Decides nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from statistics import fmean

from nova.clock import Clock
from nova.coordinator.deployment import Deployment
from nova.coordinator.metrics import Metrics
from nova.coordinator.request import Request
from nova.coordinator.trace import Trace
from nova.wire.work import ChunkTiming

RECENT = 32
"""Requests from whose durations the time to try again is estimated."""


class Books:
    """`offset_ns(node)` is that node's clock minus ours."""

    def __init__(
        self,
        deployment: Deployment,
        metrics: Metrics,
        trace: Trace,
        offset_ns: Callable[[str], int],
        clock: Clock,
    ) -> None:
        self._deployment = deployment
        self._metrics = metrics
        self._trace = trace
        self._offset_ns = offset_ns
        self._clock = clock
        self._durations: deque[float] = deque(maxlen=RECENT)

    def refused(self, code: str) -> None:
        self._metrics.ended(code, 0.0)

    def begun(self, request: Request) -> None:
        request.begun = self._clock()
        deployment = self._deployment
        self._metrics.begun(request.begun - request.asked)
        self._trace.begun(
            request.generate.request, request.stream_id, deployment.generation, deployment.transport, deployment.nodes
        )

    def passed(self, timing: ChunkTiming | None, active: Mapping[int, Request]) -> None:
        """A chunk has passed all stages; `active` are the requests by stream."""
        deployment = self._deployment
        if timing is None or len(timing.hops) != len(deployment.nodes):
            return
        offsets = [self._offset_ns(node) for node in deployment.nodes]
        self._trace.saw(deployment.generation, timing)
        self._metrics.crossed(timing, deployment.transport, offsets, self._clock())
        for stream, _ in timing.rows:
            if (request := active.get(stream)) is not None:
                request.tally.add(timing, offsets)

    def prompt(self, request: Request, cached: int) -> None:
        """The prompt has been read; `cached` tokens of it were known before."""
        request.cached = cached
        self._metrics.prompt(len(request.prompt), cached)

    def token(self, request: Request) -> None:
        now = self._clock()
        if not request.tokens:
            request.first_token = request.last_token = now
            self._metrics.first_token(now - request.asked)
        self._metrics.token(now - request.last_token if request.tokens else None)
        request.tokens += 1
        request.last_token = now

    def ended(self, request: Request, outcome: str, *, begun: bool) -> None:
        now = self._clock()
        if begun:
            self._trace.ended(request.stream_id)
            self._durations.append(now - request.begun)
        span_s = request.last_token - request.first_token
        per_token_s = span_s / (request.tokens - 1) if request.tokens > 1 else None
        self._metrics.ended(outcome, now - request.asked, per_token_s)

    def retry_after_s(self, running: int) -> float:
        """When one of so many requests will have ended, by how long the last ones ran."""
        return max(1.0, fmean(self._durations) / max(1, running)) if self._durations else 1.0
