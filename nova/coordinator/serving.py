"""Requests, from a client's prompt to its last token: admitted, queued, begun, streamed, ended.

A request is never dropped in silence: it ends with Completed, or with Failed and the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nova.config.schema import Deployment as Limits
from nova.coordinator.breakdown import breakdown, stage_shares
from nova.coordinator.deployment import Deployment
from nova.coordinator.model import ServedModel, TextStream
from nova.wire.messages import Begin, Cancel, Message, Step
from nova.wire.requests import Accepted, Completed, Failed, Generate, Piece
from nova.wire.work import ChunkTiming, Outcome

MAX_NEW_TOKENS = 1 << 20


@dataclass
class Request:
    """One request of one client. Times are monotonic seconds; `prompt` is empty until it is encoded."""

    session: int
    generate: Generate
    asked: float
    stream_id: int
    prompt: list[int] = field(default_factory=list)
    text: TextStream | None = None
    stop_tokens: frozenset[int] = frozenset()
    vocabulary: int = 0
    first_token: float = 0.0
    tokens: int = 0
    timings: list[ChunkTiming] = field(default_factory=list)

    @property
    def deadline(self) -> float:
        return self.asked + self.generate.deadline_s


class Serving:
    """`to_client(session, message)` and `to_node(node, message)` must not raise; `offset_ns(node)` is its clock's."""

    def __init__(
        self,
        limits: Limits,
        deployment: Deployment,
        to_client: Callable[[int, Message], None],
        to_node: Callable[[str, Message], None],
        offset_ns: Callable[[str], int],
    ) -> None:
        self._limits = limits
        self._deployment = deployment
        self._to_client = to_client
        self._to_node = to_node
        self._offset_ns = offset_ns
        self._queue: deque[Request] = deque()
        self._active: dict[int, Request] = {}
        self._streams = 0

    @property
    def busy(self) -> tuple[int, int]:
        """Requests that are worked on, and requests that wait."""
        return len(self._active), len(self._queue)

    def arrive(self, session: int, generate: Generate, now: float) -> Request | None:
        """Take a request in, its prompt still text; its clock starts here. None when it was refused, with a reason."""
        refusal = self._refusal(generate)
        if refusal is not None:
            self._to_client(session, Failed(generate.request, refusal))
            return None
        self._streams += 1
        request = Request(session, generate, now, self._streams)
        self._queue.append(request)
        return request

    def encoded(self, request: Request, prompt: list[int], model: ServedModel, now: float) -> None:
        """The prompt is in tokens: from now on the request may begin. One that was given up meanwhile is forgotten."""
        if request not in self._queue:
            return
        refusal = _misfit(request.generate, prompt, model)
        if refusal is not None:
            self.fail(request, refusal)
            return
        request.prompt, request.text = prompt, model.text.stream()
        request.stop_tokens, request.vocabulary = frozenset(model.stop_tokens), model.vocabulary
        self._to_client(request.session, Accepted(request.generate.request, len(prompt)))
        self.advance(now)

    def fail(self, request: Request, reason: str) -> None:
        """End one request with a reason, unless it has ended already."""
        if request in self._queue or request.stream_id in self._active:
            self._to_client(request.session, Failed(request.generate.request, reason, request.tokens))
            self._drop(request)

    def advance(self, now: float) -> None:
        """Begin what may begin, and end what is past its deadline."""
        for request in [each for each in (*self._active.values(), *self._queue) if now >= each.deadline]:
            why = "" if self._deployment.state == "serving" else f": {self._deployment.why_not}"
            self.fail(request, f"the deadline of {request.generate.deadline_s:g} s passed{why}")
        if self._deployment.state != "serving":
            for request in [each for each in self._queue if now >= each.asked + self._limits.wait_s]:
                self.fail(request, f"not served within {self._limits.wait_s:g} s: {self._deployment.why_not}")
        for request in [each for each in self._queue if each.prompt][: self._room]:
            self._queue.remove(request)
            self._active[request.stream_id] = request
            driver = self._deployment.driver
            generate = request.generate
            self._to_node(
                driver.node,
                Begin(
                    driver.key, request.stream_id, request.prompt, generate.max_tokens,
                    sorted(request.stop_tokens), generate.sampling,
                ),
            )  # fmt: skip

    def stepped(self, node: str, step: Step, now: float) -> None:
        """From the driver: pass the texts on, and close the accounts that are at their end."""
        if not self._active or (node, step.engine) != (self._deployment.driver.node, self._deployment.driver.key):
            return
        timing = step.timing
        if timing is not None and len(timing.hops) == len(self._deployment.nodes):
            for stream, _ in timing.rows:
                if stream in self._active:
                    self._active[stream].timings.append(timing)
        for outcome in step.outcomes:
            if outcome.stream in self._active:
                self._brought(self._active[outcome.stream], outcome, node, now)
        for stream, reason in step.failed.items():
            if stream in self._active:
                self.fail(self._active[stream], reason)
        self.advance(now)

    def _brought(self, request: Request, outcome: Outcome, node: str, now: float) -> None:
        strange = next((token for token in outcome.tokens if not 0 <= token < request.vocabulary), None)
        if strange is not None:
            self.fail(request, f"the engine on node {node} sent token {strange} of {request.vocabulary}: restart it")
            return
        if outcome.tokens and request.text is not None:
            request.first_token = request.first_token or now
            request.tokens += len(outcome.tokens)
            text = "".join(request.text.add(token) for token in outcome.tokens if token not in request.stop_tokens)
            text += request.text.flush() if outcome.finish else ""
            self._to_client(request.session, Piece(request.generate.request, outcome.tokens, text))
        if outcome.finish:
            self._to_client(request.session, self._account(request, outcome.finish))
            del self._active[request.stream_id]

    def fail_active(self, reason: str) -> None:
        """The group is gone, and with it every request that it worked on; what waits goes on waiting."""
        for request in self._active.values():
            self._to_client(request.session, Failed(request.generate.request, reason, request.tokens))
        self._active.clear()

    def fail_all(self, reason: str) -> None:
        """There will be no group soon: what waits for one fails too."""
        self.fail_active(reason)
        for request in list(self._queue):
            self.fail(request, reason)

    def abandon(self, session: int, request_id: str | None = None) -> None:
        """The client has gone, or no longer wants this request."""
        for request in list((*self._active.values(), *self._queue)):
            if request.session == session and request_id in (None, request.generate.request):
                self._drop(request)

    def _refusal(self, generate: Generate) -> str | None:
        """Why a request cannot be taken in, as far as that is known without its tokens."""
        if not 1 <= generate.max_tokens <= MAX_NEW_TOKENS:
            return f"max_tokens is {generate.max_tokens}, expected 1 to {MAX_NEW_TOKENS}"
        sampling = generate.sampling
        if not (0.0 <= sampling.temperature <= 100.0 and 0.0 < sampling.top_p <= 1.0):
            return "temperature must be 0 to 100 and top_p above 0, at most 1"
        if not generate.deadline_s > 0:  # also NaN, which would never pass
            return f"the deadline is {generate.deadline_s:g} s, expected more than 0"
        if self._deployment.state == "failed" and not self._deployment.falls_back:
            return f"the deployment is not serving: {self._deployment.why_not}"
        if len(self._queue) >= self._limits.queued + self._room:
            return f"{len(self._queue)} requests wait already: try again later, or raise deployment.queued"
        return None

    @property
    def _room(self) -> int:
        """How many requests may begin at this moment."""
        serves = self._deployment.state == "serving" and not self._deployment.failing
        return self._limits.concurrent - len(self._active) if serves else 0

    def _drop(self, request: Request) -> None:
        if self._active.pop(request.stream_id, None) is not None:
            driver = self._deployment.driver
            self._to_node(driver.node, Cancel(driver.key, request.stream_id))
        else:
            self._queue.remove(request)

    def _account(self, request: Request, finish: str) -> Completed:
        engines = [self._deployment.engines[rank] for rank in range(len(self._deployment.nodes))]
        nodes = [engine.node for engine in engines]
        layers = [(engine.first_layer, engine.first_layer + engine.layers) for engine in engines]
        sampled = [timing for timing in request.timings if not timing.prefill]
        span_s = (sampled[-1].done_ns - sampled[0].done_ns) / 1e9 if len(sampled) > 1 else 0.0
        prefill_s = (sampled[0].done_ns - request.timings[0].sent_ns) / 1e9 if sampled else 0.0
        return Completed(
            request=request.generate.request,
            finish=finish,
            prompt_tokens=len(request.prompt),
            completion_tokens=request.tokens,
            ttft_s=max(0.0, request.first_token - request.asked),
            prefill_tok_s=len(request.prompt) / prefill_s if prefill_s else 0.0,
            decode_tok_s=(len(sampled) - 1) / span_s if span_s else 0.0,
            transport=self._deployment.transport,
            stages=stage_shares(request.timings, nodes, layers),
            breakdown=breakdown(request.timings, nodes, [self._offset_ns(node) for node in nodes]),
        )


def _misfit(generate: Generate, prompt: Sequence[int], model: ServedModel) -> str | None:
    """Why this prompt cannot be continued by this model."""
    if not prompt:
        return "the prompt is empty: give at least one token of text"
    if len(prompt) + generate.max_tokens > model.context:
        return f"{len(prompt)} + {generate.max_tokens} tokens do not fit the model's context of {model.context}"
    return None
