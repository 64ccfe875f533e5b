"""The last stage's part: what goes round next, and what came of it.

Requests come in, chunks of token ids leave for stage 0; when one has crossed all stages its tokens are sampled here,
and the next chunk leaves at once. What to send is `scheduler`'s to decide and how to choose a token `sampling`'s; this
ties them to arrays and messages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx
import msgspec
import numpy as np
import structlog

from nova.engine.failure import described
from nova.engine.grammar import Grammars, Matcher
from nova.engine.requests import malformed
from nova.engine.sampling import Sampled, Sampler, sample
from nova.engine.scheduler import Chunk, Limits, Scheduler
from nova.errors import NovaError, TransportFault
from nova.plan.costs import Costs
from nova.wire.messages import Begin, Budget, Message, Pooled, Step
from nova.wire.rows import MAX_ROWS, RowHead
from nova.wire.tensor import Flags, Header, Kind, layout
from nova.wire.values import EngineKey, EngineSpec
from nova.wire.work import ChunkTiming, Outcome

log = structlog.get_logger(__name__)

NOTHING = mx.zeros((0,), mx.uint32)


class Ends(Protocol):
    """What this asks of the last stage; `h` is [rows, width, D]."""

    def head(self, hidden: mx.array) -> mx.array: ...
    def norm(self, hidden: mx.array) -> mx.array: ...


@dataclass
class Compiled:
    """From the thread that compiles grammars: the request may begin, or why it cannot."""

    begin: Begin
    result: Future[Matcher]


@dataclass
class _Active:
    """A request here. `vector` is the sum of what was pooled so far."""

    begin: Begin
    sampler: Sampler
    vector: mx.array | None = None


@dataclass
class _Sent:
    chunk: Chunk
    at_ns: int


class Lead:
    """`emit` sends a chunk to stage 0, `say` a message to the daemon, `later` puts something into the loop's inbox."""

    def __init__(
        self,
        key: EngineKey,
        spec: EngineSpec,
        stage: Ends,
        grammars: Grammars,
        emit: Callable[[Header, mx.array], None],
        say: Callable[[Message], None],
        later: Callable[[object], None],
    ) -> None:
        self._key = key
        self._stage = stage
        self._grammars = grammars
        self._emit = emit
        self._say = say
        self._later = later
        limits = Limits(spec.prefill_chunk, spec.prefill_min, spec.tbt_factor)
        self._scheduler = Scheduler(spec.size, Costs(spec.size), limits)
        self._active: dict[int, _Active] = {}
        self._compiling: dict[int, Future[Matcher]] = {}
        self._compiler: ThreadPoolExecutor | None = None
        self._sent: deque[_Sent] = deque()

    @property
    def under_way(self) -> int:
        """Chunks that were sent and have not come back."""
        return len(self._sent)

    # --- requests ---------------------------------------------------------------------------------------------------

    def begin(self, begin: Begin) -> None:
        known = begin.stream in self._active or begin.stream in self._compiling
        if why := "its stream is in use" if known else malformed(begin):
            self._say(Step(self._key, [], failed={begin.stream: f"request {begin.stream} cannot begin: {why}"}))
            return
        if not begin.grammar:
            self._start(begin, None)
            return
        # Compiling one may take a second: in a thread of its own, so that nobody else's tokens wait for it.
        self._compiler = self._compiler or ThreadPoolExecutor(1, "nova-grammar")
        result = self._compiler.submit(self._grammars.matcher, begin.grammar, begin.stop_tokens)
        self._compiling[begin.stream] = result
        result.add_done_callback(lambda result: self._later(Compiled(begin, result)))

    def compiled(self, done: Compiled) -> None:
        """A grammar is ready, or is none."""
        stream = done.begin.stream
        if self._compiling.pop(stream, None) is None:  # cancelled meanwhile
            return
        error = done.result.exception()
        if error is None:
            self._start(done.begin, done.result.result())
            return
        why = str(error)
        if not isinstance(error, NovaError):
            log.error("grammar could not be compiled", error=type(error).__name__)  # its text may quote the user's
            why = f"the grammar cannot be compiled: {described(error)}"
        self._say(Step(self._key, [], failed={stream: why}))

    def cancel(self, stream: int) -> None:
        """The request is no longer wanted: nothing more of it is sent, and every stage frees its caches."""
        if (compiling := self._compiling.pop(stream, None)) is not None:
            compiling.cancel()
        elif not self._scheduler.cancel(stream):
            return
        self._active.pop(stream, None)
        self._advance()
        self._say(Step(self._key, [Outcome(stream, [], "cancelled")]))

    def close(self) -> None:
        """Compile no more grammars: the process would wait for all of them before it ends."""
        if self._compiler is not None:
            self._compiler.shutdown(wait=False, cancel_futures=True)

    def budget(self, budget: Budget) -> None:
        self._scheduler.budget(budget.prefix_tokens, budget.trimmable)
        self._advance()

    # --- chunks -----------------------------------------------------------------------------------------------------

    def computed(self, header: Header, hidden: mx.array, states: Callable[[], object]) -> dict[int, Sampled]:
        """What the chunk gives, evaluated: a token for each row that is still wanted; where there is none, nothing but
        the caches' `states()`. Either way nothing is left to be read from the chunk's memory."""
        chunk = self._oldest(header).chunk
        live = [index for index, row in enumerate(chunk.rows) if row.stream in self._active]
        if live and not chunk.prefill:
            logits = self._stage.head(hidden)[:, -1, :]
            if len(live) < len(chunk.rows):
                logits = logits[mx.array(live)]
            rows = [chunk.rows[index] for index in live]
            samplers = [(self._active[row.stream].sampler, row.position + len(row.tokens)) for row in rows]
            return {row.stream: token for row, token in zip(rows, sample(logits, samplers), strict=True)}
        if live and (active := self._active[chunk.rows[0].stream]).begin.pool:
            self._pool(active, hidden)
        else:  # of requests that were cancelled, too: another may begin with their caches
            mx.eval(states())
        return {}

    def landed(self, header: Header, sampled: dict[int, Sampled]) -> None:
        """The chunk has crossed all stages: the next ones leave, then its requests are told."""
        self._oldest(header)
        sent = self._sent.popleft()
        tokens = {stream: each.token for stream, each in sampled.items()}
        over, failed = set(), dict[int, str]()
        for stream, token in tokens.items():
            self._active[stream].sampler.accept(token)
            matcher = self._active[stream].sampler.matcher
            if matcher is not None and matcher.error:
                failed[stream] = f"the text cannot go on in its grammar: {matcher.error}"
            elif matcher is not None and matcher.over:
                over.add(stream)
        seconds = [hop.compute_us / 1e6 for hop in header.hops]
        for stream in failed:
            self._scheduler.cancel(stream)
            del self._active[stream]
        outcomes = self._scheduler.landed(sent.chunk, tokens, seconds, over)
        done_ns = time.monotonic_ns()
        self._advance()  # the reports can wait, the pipeline cannot
        self._report(sent, header, done_ns, sampled, outcomes, failed)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _start(self, begin: Begin, matcher: Matcher | None) -> None:
        try:
            sampler = Sampler(begin.sampling, begin.prompt, matcher)
        except ValueError as error:
            self._say(Step(self._key, [], failed={begin.stream: str(error)}))
            return
        self._active[begin.stream] = _Active(begin, sampler)
        self._scheduler.begin(begin)
        self._advance()

    def _advance(self) -> None:
        """Send what is to be sent, and behind it what the stages may forget."""
        while (chunk := self._scheduler.next()) is not None:
            self._sent.append(_Sent(chunk, time.monotonic_ns()))
            self._emit(_header(chunk), mx.array([row.tokens for row in chunk.rows], mx.uint32))
        dropped = self._scheduler.dropped()
        for start in range(0, len(dropped), MAX_ROWS):
            rows = tuple(RowHead(stream, 0) for stream in dropped[start : start + MAX_ROWS])
            self._emit(Header(layout(Kind.TOKENS, Flags.DROP, 0, "uint32", (0,)), rows), NOTHING)

    def _report(
        self,
        sent: _Sent,
        header: Header,
        done_ns: int,
        sampled: dict[int, Sampled],
        outcomes: list[Outcome],
        failed: dict[int, str],
    ) -> None:
        hops = [(hop.received_ns, hop.waited_us, hop.compute_us) for hop in header.hops]
        rows = [(row.stream, row.position) for row in sent.chunk.rows]
        width = len(sent.chunk.rows[0].tokens)
        nbytes = header.nbytes if header.kind is Kind.HIDDEN else 0
        timing = ChunkTiming(rows, width, sent.chunk.prefill, sent.at_ns, done_ns, hops, nbytes)
        told: list[Outcome] = []
        for outcome in outcomes:
            active = self._active[outcome.stream]
            if outcome.finish:
                del self._active[outcome.stream]
            if active.vector is not None:
                self._say(Pooled(self._key, outcome.stream, _pooled(active)))
                continue
            token = sampled.get(outcome.stream)
            logprobs = [token.logprob] if token is not None and token.logprob is not None else []
            told.append(msgspec.structs.replace(outcome, logprobs=logprobs) if logprobs else outcome)
        self._say(Step(self._key, told, timing, failed))

    def _pool(self, active: _Active, hidden: mx.array) -> None:
        states = self._stage.norm(hidden)[0].astype(mx.float32)
        if active.begin.pool == "last":
            active.vector = states[-1]
        else:
            active.vector = states.sum(0) + (0 if active.vector is None else active.vector)
        mx.eval(active.vector)

    def _oldest(self, header: Header) -> _Sent:
        """The chunk that this must be, since all keep their order. Raises TransportFault."""
        sent = self._sent[0] if self._sent else None
        rows = [(row.stream, row.position) for row in header.rows]
        if sent is None or rows != [(row.stream, row.position) for row in sent.chunk.rows]:
            raise TransportFault(
                f"a chunk of {rows} came back that was not the next one: chunks were lost or overtaken"
            )
        return sent


def _header(chunk: Chunk) -> Header:
    rows = tuple(RowHead(row.stream, row.position, 0, row.first, row.source) for row in chunk.rows)
    width = len(chunk.rows[0].tokens)
    flags = Flags.PREFILL if chunk.prefill else Flags.NONE
    return Header(layout(Kind.TOKENS, flags, width, "uint32", (len(rows), width)), rows, chunk.group)


def _pooled(active: _Active) -> bytes:
    assert active.vector is not None
    positions = len(active.begin.prompt) if active.begin.pool == "mean" else 1
    return np.asarray(active.vector / positions, "<f4").tobytes()
