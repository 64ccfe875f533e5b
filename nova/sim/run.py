"""A plan that runs on a virtual clock: the engine's own scheduler over stages that take given times.

The last stage sends a chunk as soon as the scheduler has one, and learns its tokens when it lands there, as engines
do. There is no speculation, as the scheduler has none. Caches are as large as is asked for, and texts are all
different, so that no prompt finds another's caches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

from nova.engine.scheduler import Chunk, Limits, Scheduler
from nova.errors import GenerationError
from nova.plan.costs import Costs
from nova.sim.agenda import Agenda
from nova.sim.costs import WideCosts
from nova.sim.load import Fault, Load, Served
from nova.sim.pipeline import Pass, Pipeline, Placement
from nova.sim.result import Lost
from nova.wire.messages import Begin
from nova.wire.values import EngineKey
from nova.wire.work import Sampling

LIMITS = Limits(prefill_chunk=2048, prefill_min=256, tbt_factor=2.0)
"""The defaults of `engine` in the configuration."""
WIDE = 32
"""Stages from which on costs are kept as sums; with fewer the scheduler has what it has in an engine."""
TOKEN = 0
"""What every stage samples."""


@dataclass(frozen=True)
class _Flight:
    chunk: Chunk
    passed: Pass


class Simulation:
    """Call `step` until it is False. `served` are the requests that have come, in their order."""

    def __init__(
        self,
        place: Placement,
        load: Load,
        faults: Sequence[Fault] = (),
        pause_s: float = 0.0,
        limits: Limits = LIMITS,
    ) -> None:
        self.now = 0.0
        """Seconds of the virtual clock."""
        self.served: list[Served] = []
        self.lost: list[Lost] = []
        self.chunks = 0
        self.formed_at = 0.0
        self.down_s = 0.0
        self.serving = False
        self._place, self._load, self._pause_s, self._limits = place, load, pause_s, limits
        self._dead: frozenset[str] = frozenset()
        self._formed = 0
        self._flying: deque[_Flight] = deque()
        self._agenda = Agenda()
        self._running: set[int] = set()
        """Indices into `served` of those that are not over."""
        self._forms_at = 0.0
        self._form()
        for fault in faults:
            self._agenda.note(fault.at, partial(self._dies, fault))
        if load.streams:
            for _ in range(load.streams):
                self._let_in()
        elif load.asks:
            self._agenda.note(load.asks[0].at, self._let_in)

    def step(self) -> bool:
        """What happens next happens. False when all requests are over."""
        if len(self.served) == len(self._load.asks) and not self._running:
            return False
        lands = self._flying[0].passed.landed if self._flying else inf
        if self._agenda.next_at < lands:
            self.now = self._agenda.next_at
            self._agenda.pop()()
        elif self._flying:
            self.now = lands
            self._land(self._flying.popleft().chunk)
        else:
            raise GenerationError(
                f"{len(self._running)} simulated requests are stuck at {self.now:g} s: nothing is under way on "
                f"{len(self.pipeline.line.nodes)} stages; this is a defect of the scheduler, report how you got here"
            )
        return True

    def busy(self) -> list[float]:
        """Share of the time since the present group was formed in which each of its stages computed."""
        whole = self.now - self.formed_at
        computed = self.pipeline.busy - sum(flight.passed.after(self.now) for flight in self._flying)
        return [min(max(each / whole, 0.0), 1.0) if whole > 0 else 0.0 for each in computed.tolist()]  # rounding

    # --- requests ---------------------------------------------------------------------------------------------------

    def _let_in(self) -> None:
        """The next request comes; but for a closed loop, the one behind it is noted."""
        asks, index = self._load.asks, len(self.served)
        if index == len(asks):
            return
        ask = asks[index]
        self.served.append(Served(ask, self.now))
        self._running.add(index)
        if ask.patience:
            self._agenda.note(self.now + ask.patience, partial(self._leaves, index))
        if not self._load.streams and index + 1 < len(asks):
            self._agenda.note(asks[index + 1].at, self._let_in)
        if self.serving:
            self._begin(index)
            self._advance()

    def _leaves(self, index: int) -> None:
        if index in self._running:
            self.served[index].left = True
            if self.serving:
                self._scheduler.cancel(index + 1)
            self._ends(index)
            self._advance()

    def _begin(self, index: int) -> None:
        """From its prompt and all the tokens that it has been given."""
        served = self.served[index]
        given = len(served.tokens)
        prompt = [index + 1] * served.ask.prompt + [TOKEN] * given  # its own number: no other begins like it
        key = EngineKey("main", self._formed, 0)
        self._scheduler.begin(Begin(key, index + 1, prompt, served.ask.tokens - given, [], Sampling()))

    def _ends(self, index: int) -> None:
        self.served[index].over = True
        self._running.remove(index)
        if self._load.streams:
            self._let_in()

    # --- chunks -----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        while self.serving and (chunk := self._scheduler.next()) is not None:
            passed = self.pipeline.send(self.now, chunk.prefill, _positions(chunk))
            self._flying.append(_Flight(chunk, passed))
            self.chunks += 1
            self._scheduler.dropped()  # no caches are kept here

    def _land(self, chunk: Chunk) -> None:
        sampled = {} if chunk.prefill else {row.stream: TOKEN for row in chunk.rows}
        seconds = self.pipeline.seconds(chunk.prefill, _positions(chunk))
        for outcome in self._scheduler.landed(chunk, sampled, seconds.tolist()):
            index = outcome.stream - 1
            self.served[index].tokens += [self.now] * len(outcome.tokens)
            if outcome.finish:
                self._ends(index)
        self._advance()

    # --- faults -----------------------------------------------------------------------------------------------------

    def _form(self) -> None:
        """The group is there: whoever is not over is read again. Raises PlanError where no node is left to do it."""
        if self.serving or self.now < self._forms_at:  # another node has died meanwhile
            return
        line = self._place(self._dead)
        self.pipeline = Pipeline(line)
        stages = len(line.nodes)
        costs = WideCosts(stages) if stages >= WIDE else Costs(stages)
        self._scheduler = Scheduler(stages, costs, self._limits)
        self._formed += 1
        self.formed_at, self.serving = self.now, True
        for index in sorted(self._running):
            self._begin(index)
        self._advance()

    def _dies(self, fault: Fault) -> None:
        """Only what the stages hold is gone: a request's tokens are its client's. A node without a stage is missed by
        nobody, while a group serves; while one is formed, it is begun anew without the node."""
        self._dead |= {fault.node}
        if self.serving and fault.node not in self.pipeline.line.nodes:
            return
        self.lost.append(Lost(fault.node, self.now, len(self._flying), len(self._running)))
        self.down_s += self.now + self._pause_s - (self.now if self.serving else self._forms_at)
        for flight in self._flying:
            self.pipeline.lost(self.now, flight.passed)
        self._flying.clear()
        self.serving = False
        self._forms_at = self.now + self._pause_s
        self._agenda.note(self._forms_at, self._form)


def _positions(chunk: Chunk) -> int:
    return len(chunk.rows) * len(chunk.rows[0].tokens)
