"""Which chunk goes round next. It lives on the last stage, where tokens are born. Pure: no clock, no array, no socket.

A chunk is rows times width: one row of many tokens (prefill), or the next token of each request of a group (decode).
The bound is the whole ring's: S + 1 chunks keep every one of S stages busy, and every stage can hold that many, so its
receiver always reads and no two neighbours can wait for each other's sends. Chunks keep their order all round the
ring, so what is sent behind a chunk finds its caches made, and dropping behind the last use needs no answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from nova.engine.groups import Groups
from nova.engine.prefixes import Match, Prefixes, Tokens
from nova.engine.requests import Request
from nova.plan.costs import Costs, prefill_chunk, throttled
from nova.wire.messages import Begin
from nova.wire.work import Outcome


@dataclass(frozen=True)
class Row:
    """One request's part of a chunk: `tokens` from `position` on. The `first` row of a request starts its caches: empty
    ones where `source` is 0, else those of the stream `source`, cut to `position`."""

    stream: int
    position: int
    tokens: list[int]
    first: bool = False
    source: int = 0


@dataclass(frozen=True)
class Chunk:
    """All rows have the same width. `group` names the batch of a decode chunk and is 0 for prefill, which has one
    row."""

    group: int
    rows: list[Row]
    prefill: bool


@dataclass(frozen=True)
class Limits:
    """`EngineSpec`'s options of the same names."""

    prefill_chunk: int
    prefill_min: int
    tbt_factor: float


def window(stages: int) -> int:
    """Chunks that may be under way in a ring of so many stages."""
    return stages + 1


class Scheduler:
    """All requests of a pipeline. Ask `next` until it gives None, and then `dropped`, after every other call."""

    def __init__(self, stages: int, costs: Costs, limits: Limits) -> None:
        self.under_way = 0
        """Chunks that were sent and have not landed."""
        self._reading = 0
        """Prefill chunks among them."""
        self._disturbed: deque[bool] = deque()
        """Of each chunk under way: whether it says less of its size, as there was prefill when it was sent, or its
        group was made anew for it."""
        self._made_for: dict[int, list[int]] = {}
        """The rows of each group's last chunk."""
        self._window = window(stages)
        self._costs = costs
        self._limits = limits
        self._requests: dict[int, Request] = {}
        self._prompts: dict[int, Tokens] = {}
        """Of requests that have sent nothing yet."""
        self._prefilling: deque[int] = deque()
        """Requests with prompt left to send, in the order of their turns."""
        self._waiting: dict[int, Match] = {}
        """Requests that sent nothing yet -> the running one that is computing their beginning."""
        self._forks: dict[int, int] = {}
        """Requests that are to continue a stream's caches, and whose first row has not been sent -> that stream."""
        self._groups = Groups(costs, self._window, lambda stream: self._requests[stream].sent)
        self._decoded = 0
        """Decode chunks sent since the last prefill chunk."""
        self._in_a_row = 0
        """Prefill chunks sent since the last decode chunk."""
        self._prefixes = Prefixes()
        self._gone: list[int] = []

    def request(self, stream: int) -> Request | None:
        return self._requests.get(stream)

    def begin(self, begin: Begin) -> None:
        request = self._requests[begin.stream] = Request(begin)
        if begin.pool:
            self._prefilling.append(begin.stream)
        else:
            self._prompts[begin.stream] = self._prefixes.start(begin.stream, begin.prompt)
            self._place(request)

    def cancel(self, stream: int) -> bool:
        """Nothing more of it is sent; what is under way comes back and is ignored. False if there is none such."""
        request = self._requests.get(stream)
        if request is None:
            return False
        self._waiting.pop(stream, None)
        self._forks.pop(stream, None)
        self._prompts.pop(stream, None)
        if stream in self._prefilling:
            self._prefilling.remove(stream)
        self._end(request, keep=False)
        return True

    def budget(self, tokens: int, trimmable: bool) -> None:
        """So many positions may be kept of requests that have ended; `trimmable`: and be continued from any of them."""
        self._gone += self._prefixes.limit(tokens, trimmable)

    def next(self) -> Chunk | None:
        """The chunk to send now, None until something lands or comes in. It counts as under way."""
        for stream in [each for each, match in self._waiting.items() if not self._prefixes.waits(match)]:
            del self._waiting[stream]
            self._place(self._requests[stream])
        free = self._window - self.under_way
        if free <= 0:
            return None
        if self._burst() or (free == 1 and self._prefill_due()):  # the groups alone would take every place for ever
            chunk = self._prefill() or self._decode()
        else:
            chunk = self._decode() or self._prefill() or self._decode()  # a look at prefill may find all computed
        if chunk is not None:
            self.under_way += 1
            self._reading += chunk.prefill
            self._disturbed.append(self._reading > 0 or self._made_anew(chunk))
        return chunk

    def dropped(self) -> list[int]:
        """Streams whose caches go away, told once; to be sent behind everything that was sent before."""
        held = set(self._forks.values())
        gone, self._gone = self._gone, [stream for stream in self._gone if stream in held]
        return [stream for stream in gone if stream not in held]

    def landed(
        self, chunk: Chunk, sampled: Mapping[int, int], seconds: Sequence[float], over: Collection[int] = ()
    ) -> list[Outcome]:
        """The oldest chunk under way has crossed all stages, which took each so many seconds of computing. `sampled`
        has the token of each request of a decode chunk; nothing can follow it in the texts that are `over`."""
        self.under_way -= 1
        disturbed = self._disturbed.popleft() or self._reading > 0
        self._reading -= chunk.prefill
        self._costs.saw(chunk.prefill, len(chunk.rows) * len(chunk.rows[0].tokens), seconds, disturbed)
        if not chunk.prefill:
            self._groups.landed(chunk.group)
        outcomes = []
        for row in chunk.rows:
            request = self._requests.get(row.stream)
            if request is None:  # cancelled while it was under way
                continue
            if not chunk.prefill:
                first = not request.generated
                token = sampled[row.stream]
                finish = request.sampled(token) or ("stop" if row.stream in over else "")
                outcomes.append(Outcome(row.stream, [token], finish, cached=request.cached if first else 0))
            elif request.begin.pool and row.position + len(row.tokens) == len(request.begin.prompt):
                finish = "stop"
                outcomes.append(Outcome(row.stream, [], finish))
            else:
                continue
            if finish:
                self._end(request, keep=not request.begin.pool)
        return outcomes

    def _end(self, request: Request, *, keep: bool) -> None:
        stream = request.stream
        del self._requests[stream]
        self._groups.leave(stream)
        if keep:
            self._gone += self._prefixes.keep(stream, request.computed)
        else:
            self._prefixes.forget(stream)
            self._gone += [stream] if request.started else []

    # --- prefill ----------------------------------------------------------------------------------------------------

    def _prefill_due(self) -> bool:
        """While others decode, one piece goes round with each cycle of their groups."""
        if not self._prefilling or not self._groups.streams:
            return bool(self._prefilling)
        return self._decoded >= max(len(self._groups), 1) or self._burst()

    def _burst(self) -> bool:
        """A short prompt is to be read now: as many in a row as may be under way, since who comes to decode together
        joins the groups' batches at once; and more while no fewer wait than decode, who hold up fewer than they are."""
        if not self._prefilling or not self._short(self._prefilling[0]):
            return False
        return self._in_a_row < self._window or len(self._prefilling) >= self._groups.streams

    def _short(self, stream: int) -> bool:
        """Read in one piece: that holds up the others once, and for a moment."""
        request = self._requests[stream]
        return not request.started and request.prefill_left < self._limits.prefill_min

    def _prefill(self) -> Chunk | None:
        while self._prefill_due():
            request = self._requests[self._prefilling.popleft()]
            if request.stream in self._prompts:
                match = self._look(request)
                if match is None:
                    continue
                self._fork(request, match)
            row = self._row(request, self._piece(request))
            if request.prefill_left:
                self._prefilling.append(request.stream)
            elif not request.begin.pool:
                self._groups.join(request.stream)
            self._decoded = 0
            self._in_a_row += 1
            return Chunk(0, [row], True)
        return None

    def _piece(self, request: Request) -> int:
        left, limits = request.prefill_left, self._limits
        if self._groups.streams and not self._short(request.stream):
            rows, groups = max(self._groups.largest, 1), max(len(self._groups), 1)
            size = throttled(self._costs, rows, groups, limits.tbt_factor, limits.prefill_chunk)
            request.piece = 0
            return ceil(left / ceil(left / size))
        if not request.piece:
            request.piece = prefill_chunk(self._costs, left, limits.prefill_min, limits.prefill_chunk)
        return min(request.piece, left)

    def _place(self, request: Request) -> None:
        """It comes in, or need not wait for another any more. When its turn to prefill has come, there may be more of
        its beginning: that is looked for again then."""
        if self._look(request) is not None:
            self._prefilling.append(request.stream)

    def _look(self, request: Request) -> Match | None:
        """What there is of a request that has sent nothing, when some of its prompt is to be computed. Else it decodes,
        or waits for another that is computing its beginning."""
        now, soon = self._prefixes.find(self._prompts[request.stream])
        if soon.length:
            self._waiting[request.stream] = soon
            return None
        if now.length < len(request.begin.prompt) - 1:
            return now
        self._fork(request, now)
        self._groups.join(request.stream)
        return None

    def _fork(self, request: Request, match: Match) -> None:
        del self._prompts[request.stream]
        if match.length:
            request.fork(match.stream, match.length)
            self._forks[request.stream] = match.stream

    # --- decode -----------------------------------------------------------------------------------------------------

    def _decode(self) -> Chunk | None:
        group = self._groups.next()
        if group is None:
            return None
        number, members = group
        self._decoded += 1
        self._in_a_row = 0
        return Chunk(number, [self._row(self._requests[stream], 1) for stream in members], False)

    def _made_anew(self, chunk: Chunk) -> bool:
        """Whether the stages merge caches for this chunk."""
        members = [row.stream for row in chunk.rows]
        known = self._made_for.pop(chunk.group, None)
        self._made_for[chunk.group] = members
        if len(self._made_for) > self._window + 1:  # of all groups there are, and prefill's number 0
            del self._made_for[next(iter(self._made_for))]
        return known != members and not chunk.prefill

    def _row(self, request: Request, width: int) -> Row:
        """The request's next tokens, which count as sent."""
        first = not request.started
        position, tokens = request.take(width)
        self._forks.pop(request.stream, None)
        if not request.begin.pool and position < len(request.begin.prompt):
            self._prefixes.sent(request.stream, request.sent)
        return Row(request.stream, position, tokens, first, request.source if first else 0)
