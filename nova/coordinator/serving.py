"""Requests, from a client's prompt to its last token: admitted, queued, begun, streamed, ended.

A request is never dropped in silence: it ends with Completed or Embedded, or with Failed and the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

from nova.clock import Clock
from nova.config.schema import Deployment as Limits
from nova.coordinator.account import account, strange
from nova.coordinator.admission import Admission
from nova.coordinator.books import Books
from nova.coordinator.deployment import Deployment
from nova.coordinator.model import ServedModel
from nova.coordinator.request import Request, invalid, misfit
from nova.wire.messages import Begin, Budget, Cancel, Message, Pooled, Step
from nova.wire.requests import Accepted, Embedded, Failed, Generate, Piece
from nova.wire.work import Outcome

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Post:
    """The ways out, which must not raise: `to_client(session, message)` and `to_node(node, message)`."""

    to_client: Callable[[int, Message], None]
    to_node: Callable[[str, Message], None]


class Serving:
    """The requests of one deployment, in the order in which they came."""

    def __init__(self, limits: Limits, deployment: Deployment, post: Post, books: Books, clock: Clock) -> None:
        self._limits = limits
        self._deployment = deployment
        self._post = post
        self._books = books
        self._clock = clock
        self._queue: deque[Request] = deque()
        self._active: dict[int, Request] = {}
        self._streams = 0
        self._generation = 0
        self._memory = Admission([], [], 0.0)
        """That of the group of `_generation`."""

    @property
    def busy(self) -> tuple[int, int]:
        """Requests that are worked on, and requests that wait."""
        return len(self._active), len(self._queue)

    @property
    def kv_usage(self) -> dict[str, float]:
        """Each node's share of its memory for caches that requests have reserved."""
        return self._memory.usage

    @property
    def counters(self) -> dict[str, int]:
        """All of that in whole numbers, for `nova.wire.requests.StatusReply`; memory in percent."""
        running, waiting = self.busy
        kv = {f"kv_percent:{node}": round(100 * share) for node, share in self.kv_usage.items()}
        return {"requests_running": running, "requests_waiting": waiting, **kv}

    def knows(self, request: Request) -> bool:
        """Whether it has not ended."""
        return request.stream_id in self._active or request in self._queue

    # --- from clients -----------------------------------------------------------------------------------------------

    def arrive(self, session: int, generate: Generate) -> Request | None:
        """Take a request in, its prompt still text; its clock starts here. None when it was refused, with a reason."""
        refusal = self._refusal(generate)
        if refusal is not None:
            self._post.to_client(session, refusal)
            self._books.refused(refusal.code)
            return None
        self._streams += 1
        request = Request(session, generate, self._clock(), self._streams)
        self._queue.append(request)
        return request

    def encoded(self, request: Request, prompt: list[int], model: ServedModel) -> None:
        """The prompt is in tokens: from now on the request may begin. One that was given up meanwhile is forgotten."""
        if request not in self._queue:
            return
        generate = request.generate
        code, reason = misfit(generate, prompt, model)
        if code:
            self.fail(request, reason, code)
            return
        request.encoded(prompt, model, self._limits.max_tokens)
        if self._waits(request) and sum(bool(each.prompt) for each in self._queue) > self._limits.queued:
            # When it came there was a place for it; that there is no memory is known only with its length.
            self._post.to_client(request.session, self._busy(generate.request))
            self._end(request, "busy")
            return
        self._post.to_client(request.session, Accepted(generate.request, len(prompt)))
        self.advance()

    def abandon(self, session: int, request_id: str | None = None) -> None:
        """The client has gone, or no longer wants this request."""
        for request in list((*self._active.values(), *self._queue)):
            if request.session == session and request_id in (None, request.generate.request):
                self._end(request, "abandoned", cancel=True)
        self.advance()

    # --- what the group brings --------------------------------------------------------------------------------------

    def stepped(self, node: str, step: Step) -> None:
        """From the driver: pass the texts on, and close the accounts that are at their end."""
        if not self._is_driver(node, step):
            return
        self._books.passed(step.timing, self._active)
        for outcome in step.outcomes:
            if (request := self._active.get(outcome.stream)) is not None and not request.generate.pool:
                self._brought(request, outcome, node)
        for stream, reason in step.failed.items():
            if (request := self._active.get(stream)) is not None:  # before its first token it was not to be begun
                self.fail(request, reason, "lost" if request.tokens else "invalid")
        self.advance()

    def pooled(self, node: str, pooled: Pooled) -> None:
        """From the driver: the vector that a request asked for, which ends it."""
        if not self._is_driver(node, pooled):
            return
        self._books.passed(pooled.timing, self._active)
        request = self._active.get(pooled.stream)
        if request is not None and request.generate.pool:
            size = len(pooled.vector)
            if not size or size % FLOAT_BYTES:
                self.fail(request, f"the engine on node {node} sent a vector of {size} bytes: restart it")
            else:
                self._books.prompt(request, cached=0)
                embedded = Embedded(request.generate.request, pooled.vector, len(request.prompt))
                self._post.to_client(request.session, embedded)
                self._end(request, "embedded")
        self.advance()

    def fail(self, request: Request, reason: str, code: str = "lost") -> None:
        """End one request with a reason, unless it has ended already."""
        if self.knows(request):
            self._post.to_client(request.session, Failed(request.generate.request, reason, request.tokens, code))
            self._end(request, code, cancel=True)

    def fail_active(self, reason: str, code: str = "lost") -> None:
        """The group is gone, and with it every request that it worked on; what waits goes on waiting."""
        for request in list(self._active.values()):
            self._post.to_client(request.session, Failed(request.generate.request, reason, request.tokens, code))
            self._end(request, code)

    def fail_all(self, reason: str, code: str = "lost") -> None:
        """There will be no group soon: what waits for one fails too, as "unavailable"."""
        self.fail_active(reason, code)
        for request in list(self._queue):
            self.fail(request, reason, "unavailable")

    def advance(self) -> None:
        """End what is past its deadline, and begin what may begin."""
        now = self._clock()
        for request in [each for each in (*self._active.values(), *self._queue) if now >= each.deadline]:
            why = "" if self._deployment.state == "serving" else f": {self._deployment.why_not}"
            self.fail(request, f"the deadline of {request.generate.deadline_s:g} s passed{why}", "deadline")
        if self._deployment.state != "serving":
            for request in [each for each in self._queue if now >= each.asked + self._limits.wait_s]:
                reason = f"not served within {self._limits.wait_s:g} s: {self._deployment.why_not}"
                self.fail(request, reason, "unavailable")
            return
        self._measure()
        while (first := self._next) is not None:
            if why := self._memory.never(first.positions):
                self.fail(first, why, "too_long")
            elif self._memory.fits(first.positions):
                self._begin(first)
            else:  # nothing overtakes it: among smaller ones that fit a large one would wait for ever
                break

    # --- inside -----------------------------------------------------------------------------------------------------

    def _refusal(self, generate: Generate) -> Failed | None:
        """Why a request cannot be taken in, as far as that is known without its tokens."""
        deployment, name = self._deployment, generate.request
        if why := invalid(generate):
            return Failed(name, why, code="invalid")
        if (deployment.state == "failed" and not deployment.falls_back) or deployment.state == "stopped":
            reason = f"the deployment is not serving: {deployment.why_not}"
            return Failed(name, reason, code="unavailable", retry_after_s=self._limits.retry_s)
        blocked = self._next is not None  # by memory: nothing that comes now will begin at once
        if len(self._queue) >= self._limits.queued + (0 if blocked else self._room):
            return self._busy(name)
        return None

    def _busy(self, name: str) -> Failed:
        reason = f"{self._limits.queued} requests wait already: try again later, or raise deployment.queued"
        return Failed(name, reason, code="busy", retry_after_s=self._books.retry_after_s(len(self._active)))

    @property
    def _room(self) -> int:
        """How many requests may begin at this moment, memory allowing."""
        serves = self._deployment.state == "serving" and not self._deployment.failing
        return self._limits.concurrent - len(self._active) if serves else 0

    @property
    def _next(self) -> Request | None:
        """The first request that waits for nothing but memory; one still to be encoded is not in line yet."""
        return next((each for each in self._queue if each.prompt), None) if self._room > 0 else None

    def _waits(self, request: Request) -> bool:
        """Whether a request whose prompt is known will neither begin nor fail at once."""
        if self._next is not request:
            return True
        return not self._memory.fits(request.positions) and not self._memory.never(request.positions)

    def _is_driver(self, node: str, message: Step | Pooled) -> bool:
        if self._deployment.state != "serving":
            return False
        driver = self._deployment.driver
        return (node, message.engine) == (driver.node, driver.key)

    def _measure(self) -> None:
        """A group that has just formed says what requests cost; its driver hears what it may keep of them."""
        deployment = self._deployment
        if deployment.generation == self._generation:
            return
        self._generation, engines = deployment.generation, deployment.engines
        costs = [engines[rank].kv for rank in range(len(deployment.nodes))]
        self._memory = Admission(deployment.nodes, costs, deployment.config.engine.prefix_share)
        driver = deployment.driver
        self._post.to_node(driver.node, Budget(driver.key, self._memory.prefix_tokens, self._memory.trimmable))

    def _begin(self, request: Request) -> None:
        driver, generate = self._deployment.driver, request.generate
        self._queue.remove(request)
        self._active[request.stream_id] = request
        self._memory.reserve(request.stream_id, request.positions)
        self._books.begun(request)
        self._post.to_node(
            driver.node,
            Begin(
                driver.key, request.stream_id, request.prompt, request.max_tokens, sorted(request.stop_tokens),
                generate.sampling, generate.grammar, generate.pool,
            ),
        )  # fmt: skip

    def _brought(self, request: Request, outcome: Outcome, node: str) -> None:
        pieces = request.pieces
        if pieces is None or (why := strange(request, outcome)):
            self.fail(request, f"the engine on node {node} sent {why}: restart it")
            return
        if outcome.tokens and not request.tokens:
            self._books.prompt(request, outcome.cached)
        for token, logprob in zip_longest(outcome.tokens, outcome.logprobs):
            pieces.add(token, logprob)
            self._books.token(request)
            if pieces.stopped_by:
                break
        if outcome.finish:
            pieces.end()
        finish = "stop" if pieces.stopped_by else outcome.finish
        tokens, text, given = pieces.take()
        if tokens or text:
            self._post.to_client(request.session, Piece(request.generate.request, tokens, text, given))
        if finish:
            completed = account(request, finish, self._deployment)
            self._post.to_client(request.session, completed)
            self._end(request, finish, cancel=not outcome.finish)

    def _end(self, request: Request, outcome: str, *, cancel: bool = False) -> None:
        """The only way out, for every request that was taken in. `cancel` tells the driver, who does not know it."""
        begun = self._active.pop(request.stream_id, None) is not None
        if not begun:
            self._queue.remove(request)
        elif cancel and self._deployment.state == "serving":
            driver = self._deployment.driver
            self._post.to_node(driver.node, Cancel(driver.key, request.stream_id))
        self._memory.release(request.stream_id)
        self._books.ended(request, outcome, begun=begun)
