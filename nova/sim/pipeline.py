"""A pipeline on paper: stages and links in a row, each of which takes chunks in their order. No clock, no process.

A chunk begins on a stage when it is there and the stage is free: start_i = max(free_i, done_{i-1} + latency). So with
links, which are stages whose work is the transfer. The recursion is solved for all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]

StageTimes = Callable[[int], Sequence[float]]
"""Seconds of each stage for a chunk of so many positions."""


@dataclass(frozen=True)
class Line:
    """Stages in pipeline order. A decode chunk of n rows takes `decode(n)`, a piece of a prompt of n tokens
    `prefill(n)`. Link i goes from stage i to the next one: `latency_s[i]` for a message of any size, and
    `transfer_s[i]` for each position, during which the link is taken. Token ids go back from the last stage to the
    first, so of that link only the latency counts. One stage alone has no way back.
    """

    nodes: Sequence[str]
    decode: StageTimes
    prefill: StageTimes
    latency_s: Sequence[float]
    transfer_s: Sequence[float]


Placement = Callable[[frozenset[str]], Line]
"""From the nodes that have died to what runs without them. Raises PlanError where nothing can."""


@dataclass(frozen=True)
class Pass:
    """One chunk's way: when each stage began and ended with it. It `landed` where the last one ended."""

    start: Seconds
    done: Seconds
    landed: float

    def after(self, at: float) -> Seconds:
        """What each stage computes of it after that moment."""
        return np.clip(self.done - np.maximum(self.start, at), 0, None)


class Pipeline:
    """Empty when made. `busy` has the seconds that each stage has computed or will, for what was sent so far."""

    def __init__(self, line: Line) -> None:
        stages = len(line.nodes)
        self.line = line
        self.busy: Seconds = np.zeros(stages)
        self._free: Seconds = np.zeros(2 * stages - 1)
        """Stages and the links between them, in turn."""
        latency = np.zeros(2 * stages - 1)
        latency[1::2] = line.latency_s[: stages - 1]
        self._latency = latency
        self._transfer: Seconds = np.array(line.transfer_s[: stages - 1], np.float64)
        self._back = line.latency_s[-1] if stages > 1 else 0.0
        self._known: dict[tuple[bool, int], tuple[Seconds, Seconds, Seconds]] = {}

    def seconds(self, prefill: bool, positions: int) -> Seconds:
        """What each stage takes for such a chunk."""
        return self._work(prefill, positions)[0]

    def send(self, at: float, prefill: bool, positions: int) -> Pass:
        """A chunk leaves the last stage, where the scheduler is, for the first one."""
        compute, work, before = self._work(prefill, positions)
        start: Seconds = before + np.maximum.accumulate(np.maximum(self._free - before, at + self._back))
        self._free = start + work
        self.busy += compute
        return Pass(start[::2], self._free[::2], float(self._free[-1]))

    def lost(self, at: float, passed: Pass) -> None:
        """The stages stop at that moment, so the rest of this chunk is not computed."""
        self.busy -= passed.after(at)

    def _work(self, prefill: bool, positions: int) -> tuple[Seconds, Seconds, Seconds]:
        """Seconds of each stage; of each stage and link; and the time from the first's begin to each one's, on empty
        ones."""
        key = prefill, positions
        if key not in self._known:
            compute = np.array((self.line.prefill if prefill else self.line.decode)(positions), np.float64)
            work = np.zeros(len(self._free))
            work[::2] = compute
            work[1::2] = self._transfer * positions
            before = np.cumsum(self._latency)
            before[1:] += np.cumsum(work)[:-1]
            self._known[key] = compute, work, before
        return self._known[key]
