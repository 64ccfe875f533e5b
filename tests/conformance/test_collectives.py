"""The cases of collectives know the right answers, and see a wrong one.

MLX's own groups need processes; here the ranks are threads, and `mx.distributed`'s functions are replaced by ones that
work out the answer with NumPy from what all ranks bring.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from nova.clock import Deadline
from nova.testing.cases import CASES
from nova.testing.cases.collectives import KNOWN
from nova.testing.harness import Harness
from nova.testing.meeting import Meeting, Place
from nova.transport.api import Caps, Seat, TransportInfo
from nova.transport.memory import CAPS, Hub, MemoryConfig, MemoryEndpoint, MemoryGroup, MemoryTransport

from .mutants.base import GroupEndpoint

Answer = Callable[[list[Any], int], Any]

RIGHT: dict[str, Answer] = {
    "all_sum": lambda every, _: np.sum(every, axis=0),
    "all_max": lambda every, _: np.max(every, axis=0),
    "all_min": lambda every, _: np.min(every, axis=0),
    "all_gather": lambda every, _: np.concatenate(every),
    "sum_scatter": lambda every, rank: np.split(np.sum(every, axis=0), len(every))[rank],
}

WRONG: dict[str, Answer] = {
    "all_sum": lambda every, _: np.sum(every[:-1], axis=0),  # the last rank is left out
    "all_max": lambda every, _: every[-1],  # the last one wins
    "all_min": lambda every, _: np.min(every, axis=0) * (len(every[0]) < 70_000),  # a large one is not waited for
    "all_gather": lambda every, _: np.concatenate(every[::-1]),  # in another order
    "sum_scatter": lambda every, rank: np.split(np.sum(every, axis=0), len(every))[rank - 1],  # the neighbour's share
}


@dataclass
class Native:
    """Stands for an `mx.distributed.Group`."""

    place: Place
    of: int

    def rank(self) -> int:
        return self.place.rank

    def size(self) -> int:
        return self.of


@dataclass
class Meetings:
    """One meeting for each group."""

    found: dict[str, Meeting] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, seat: Seat) -> Meeting:
        with self.lock:
            return self.found.setdefault(seat.group, Meeting(seat.size))


def harness(lie: str = "") -> Harness:
    meetings = Meetings()

    class Collective(MemoryGroup):
        caps = CAPS | Caps.COLLECTIVES
        collectives = frozenset(KNOWN)

        def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
            super().__init__(hub, seat, capacity)
            self._native = Native(Place(meetings.of(seat), (seat.rank + (lie == "place")) % seat.size), seat.size)

        def native(self) -> Native:
            return self._native

    hub = Hub()

    class Transport(MemoryTransport):
        def probe(self, hosts: Any) -> TransportInfo:
            offered = KNOWN[:-1] if lie == "probe" else KNOWN
            return replace(super().probe(hosts), caps=Collective.caps, collectives=offered)

        def open(self, seat: Seat) -> MemoryEndpoint:
            return GroupEndpoint(self._hub, seat, self.config.capacity, Collective)

    return Harness("memory", make=lambda: Transport(MemoryConfig(), hub), limit_s=10.0)


def replaced(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Answer]) -> None:
    for name, answer in answers.items():

        def operation(x: Any, *, group: Native, stream: object, answer: Answer = answer) -> Any:
            assert stream == mx.cpu, "MLX's communication has no GPU kernels"
            ours = np.array(x.astype(mx.float32)).tobytes()
            every = group.place.all_gather(ours, Deadline.after(5))
            result = answer([np.frombuffer(each, np.float32) for each in every], group.rank())
            return mx.array(result.astype(np.float32)).astype(x.dtype)

        monkeypatch.setattr(mx.distributed, name, operation)


@pytest.mark.parametrize("clause", ["C1", "C2", "C3"])
def test_right_answers_pass(monkeypatch: pytest.MonkeyPatch, clause: str) -> None:
    replaced(monkeypatch, RIGHT)
    (case,) = [case for case in CASES.values() if case.clause == clause]
    result = harness().run(case)
    assert result.outcome == "passed", result.reason


@pytest.mark.parametrize("name", KNOWN)
def test_a_wrong_answer_fails_and_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    replaced(monkeypatch, {**RIGHT, name: WRONG[name]})
    for clause in ("C2", "C3"):
        (case,) = [case for case in CASES.values() if case.clause == clause]
        result = harness().run(case)
        assert result.outcome == "failed"
        assert f"{name} of " in result.reason
        assert "gave a wrong answer" in result.reason


@pytest.mark.parametrize(("lie", "reason"), [("place", "MLX's group is rank"), ("probe", "the group offers")])
def test_a_native_group_in_another_place_fails(lie: str, reason: str) -> None:
    result = harness(lie).run(CASES["C1_the_native_group_has_the_same_place"])
    assert result.outcome == "failed"
    assert reason in result.reason
