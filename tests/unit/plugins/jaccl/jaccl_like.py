"""A backend that behaves as MLX's JACCL was observed to, with its known failures on demand."""

from __future__ import annotations

import json
import os
import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nova_transport_jaccl.backend import Factory, NativeGroup

from nova.clock import Deadline
from nova.transport.api import Seat

EXCHANGES = (4, 64, 4, 4)
"""Bytes of the all-gathers in the init of a mesh of two."""

TICKET = bytes(32)


class Native:
    """What MLX calls a group."""

    def __init__(self, rank: int, size: int) -> None:
        self._place = rank, size

    def rank(self) -> int:
        return self._place[0]

    def size(self) -> int:
        return self._place[1]


class Wires:
    """Arrays under way, by source and destination."""

    def __init__(self) -> None:
        self._queues: dict[tuple[int, int], queue.SimpleQueue[Any]] = {}

    def between(self, source: int, destination: int) -> queue.SimpleQueue[Any]:
        return self._queues.setdefault((source, destination), queue.SimpleQueue())


class JacclLike:
    """`fails` names the steps that raise, `place` is what MLX takes itself for, `sums` what the barrier gives."""

    def __init__(
        self,
        wires: Wires | None = None,
        fails: Mapping[str, Exception] | None = None,
        place: tuple[int, int] | None = None,
        sums: list[int] | None = None,
    ) -> None:
        self.wires = wires or Wires()
        self.fails = dict(fails or {})
        self.place = place
        self.sums = sums
        self.calls: list[str] = []
        self.environment: dict[str, str] = {}
        self.matrix: Any = None

    def init(self, factory: Factory | None) -> NativeGroup:
        self._step("init")
        self.environment = {name: value for name, value in os.environ.items() if name.startswith(("JACCL_", "MLX_"))}
        self.matrix = json.loads(Path(os.environ["JACCL_IBV_DEVICES"]).read_text())
        rank, size = int(os.environ["JACCL_RANK"]), len(self.matrix)
        if factory is not None:
            gather = factory(rank, size)
            for count in EXCHANGES:
                gathered = gather(bytes([rank]) * count, count)
                if type(gathered) is not bytes:
                    raise RuntimeError("std::bad_cast")
                if len(gathered) != size * count:
                    raise ValueError("wrong length")
        self._step("devices")
        return Native(*(self.place or (rank, size)))

    def barrier(self, group: NativeGroup) -> list[int]:
        self._step("barrier")
        return self.sums if self.sums is not None else [group.size()] * 4

    def send(self, array: Any, dst: int, group: NativeGroup) -> None:
        self._step("send")
        self.wires.between(group.rank(), dst).put(array)

    def recv(self, shape: Sequence[int], dtype: Any, src: int, group: NativeGroup) -> Any:
        self._step("recv")
        return self.wires.between(src, group.rank()).get(timeout=10.0)

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails[name]


class Echo:
    """A rendezvous in which every rank sends what this one sends."""

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self.rounds = 0

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        self.rounds += 1
        return [blob] * self.size


def seat(rank: int = 0, size: int = 2, *hosts: str) -> Seat:
    return Seat("group", 1, rank, size, TICKET, hosts or ("127.0.0.1",))
