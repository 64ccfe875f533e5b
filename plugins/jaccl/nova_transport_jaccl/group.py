"""A formed JACCL group: arrays between ranks, and MLX's own group for collectives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

from nova.clock import Deadline
from nova.errors import TransferTimeout
from nova.transport.api import Caps, Group, Seat
from nova.transport.life import Life
from nova_transport_jaccl.backend import Backend, NativeGroup
from nova_transport_jaccl.errors import translate
from nova_transport_jaccl.facts import release
from nova_transport_jaccl.matrix import Plan

CAPS = Caps.ARRAYS | Caps.COLLECTIVES | Caps.INTER_HOST
"""What holds for every group. ANY_PAIR does not: it holds for a mesh, and a node alone cannot know that it will be
one. A waiting call polls for ever, so neither DEADLINE nor ABORT nor PEER_FAILURE; whoever calls is watched."""

COLLECTIVES = ("all_sum", "all_max", "all_min")
GATHER_IN_RINGS_SINCE = (0, 32, 3)
"""Before, a ring's all_gather returned uninitialised memory (fixed by ml-explore/mlx #4443)."""

T = TypeVar("T")


def collectives(mlx: str, topology: str = "ring") -> tuple[str, ...]:
    """What works with MLX version `mlx`. sum_scatter is none of it: MLX documents it for NCCL alone."""
    gather = topology == "mesh" or release(mlx) >= GATHER_IN_RINGS_SINCE
    return (*COLLECTIVES, "all_gather") if gather else COLLECTIVES


class JacclGroup(Group):
    """An ArrayGroup and a CollectiveGroup.

    One operation at a time: send and receive with one peer take each other's completions, and sends share a buffer.
    MLX checks neither lengths nor states, so the first error breaks the group.
    """

    caps = CAPS

    def __init__(self, seat: Seat, backend: Backend, native: NativeGroup, plan: Plan, mlx: str) -> None:
        self.rank = seat.rank
        self.size = seat.size
        self.collectives = frozenset(collectives(mlx, plan.topology))
        self._backend = backend
        self._native = native
        self._plan = plan
        self._turn = threading.Lock()
        self._life = Life(lambda: None, lambda: None)  # nothing can wake a call, and MLX keeps its group for ever

    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        """See `nova.transport.api.ArrayGroup`. Raises ValueError for an array that is empty or not contiguous."""
        self._reachable(dst)
        if not array.size:
            raise ValueError("an empty array cannot be sent: JACCL ends the process for some of them")
        if not memoryview(array).c_contiguous:
            raise ValueError(f"an array must be contiguous, this one of shape {tuple(array.shape)} is not")
        self._in_turn(lambda: self._backend.send(array, dst, self._native), dst, deadline)

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        """See `nova.transport.api.ArrayGroup`. Raises ValueError for an empty shape."""
        self._reachable(src)
        if not prod(shape):
            raise ValueError(f"an empty array cannot be received, and {tuple(shape)} is one")
        return self._in_turn(lambda: self._backend.recv(shape, dtype, src, self._native), src, deadline)

    def native(self) -> NativeGroup:
        """MLX's group. Its operations and this group's must not overlap: they would mix up their data."""
        return self._native

    def close(self, deadline: Deadline) -> None:
        """Does not wait: a send has left when its call returned."""
        self._life.close()

    def abort(self) -> None:
        """Later calls are refused. One that is blocked stays so: the process must end."""
        self._life.close()

    def _in_turn(self, operation: Callable[[], T], rank: int, deadline: Deadline) -> T:
        with self._life:
            if not self._turn.acquire(timeout=deadline.remaining()):
                raise TransferTimeout(f"another transfer was under way until the deadline of this, with rank {rank}")
            try:
                self._life.check()  # it may have ended while this call waited
                return operation()
            except (RuntimeError, ValueError) as error:
                raise self._life.broke(translate(error, rank=rank)) from error
            finally:
                self._turn.release()

    def _reachable(self, rank: int) -> None:
        if not 0 <= rank < self.size or not self._plan.reaches(self.rank, rank):
            raise ValueError(f"rank {self.rank} has no cable to rank {rank} in this {self._plan.topology}")
