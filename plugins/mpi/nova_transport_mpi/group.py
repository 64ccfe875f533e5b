"""Connected ranks: MLX's MPI group, for arrays between any two of them and for collectives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from nova.clock import Deadline
from nova.transport.api import Caps, Group, Seat
from nova.transport.life import Life
from nova_transport_mpi.errors import translate
from nova_transport_mpi.launcher import Launcher

CAPS = Caps.ARRAYS | Caps.COLLECTIVES | Caps.ANY_PAIR | Caps.FULL_DUPLEX | Caps.INTER_HOST
"""No DEADLINE and no ABORT: a call that waits for its peer cannot be woken. No PEER_FAILURE: when a rank is killed, a
receive from it waits for ever (tried with Open MPI 5.0.11, shared memory), or MPI ends the process by itself."""

COLLECTIVES = ("all_gather", "all_max", "all_min", "all_sum")
"""MLX's MPI backend has no sum_scatter."""

PIECE = 2**31 - 1
"""Elements; MPI counts them in a C int, so a larger array crosses in blocks of its first axis."""


class MpiGroup(Group):
    """An ArrayGroup and a CollectiveGroup. Open MPI runs at MPI_THREAD_MULTIPLE: one thread may send while another
    receives."""

    caps = CAPS
    collectives = frozenset(COLLECTIVES)

    def __init__(self, seat: Seat, group: Any, launcher: Launcher | None) -> None:
        """`launcher` is rank 0's mpirun, which ends with this group."""
        self.rank = seat.rank
        self.size = seat.size
        self._group = group
        self._launcher = launcher
        self._life = Life(wake=lambda: None, release=self._release)

    def native(self) -> Any:
        return self._group

    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        """May block for longer than the deadline. Raises ValueError, GroupBroken, GroupClosed."""
        import mlx.core as mx

        self._check(dst)
        if not memoryview(array).c_contiguous:
            raise ValueError(f"an array must be contiguous, this one has shape {array.shape} and other strides")
        ends = list(itertools.accumulate(rows_of_blocks(tuple(array.shape))))
        with self._life:
            try:
                for block in mx.split(array, ends[:-1], stream=mx.cpu) if ends else [array]:
                    mx.eval(mx.distributed.send(block, dst, group=self._group, stream=mx.cpu))
            except (RuntimeError, ValueError) as error:
                raise self._life.broke(translate(error, peer=dst)) from error

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        """May block for longer than the deadline. Raises ValueError, GroupBroken, GroupClosed."""
        import mlx.core as mx

        self._check(src)
        blocks = [(rows, *shape[1:]) for rows in rows_of_blocks(shape)]
        with self._life:
            try:
                came = [self._block(each, dtype, src) for each in blocks or [tuple(shape)]]
                array = mx.concatenate(came, stream=mx.cpu) if blocks else came[0]
                mx.eval(array)
            except (RuntimeError, ValueError) as error:
                raise self._life.broke(translate(error, peer=src)) from error
        return array

    def close(self, deadline: Deadline) -> None:
        """What was sent is Open MPI's already. Waits for mpirun to end, at rank 0."""
        if self._life.close() and self._launcher is not None and not self._life.inside:
            self._launcher.wait(deadline)

    def abort(self) -> None:
        """A call in flight goes on: its process is to be ended."""
        self._life.close()

    def _block(self, shape: Sequence[int], dtype: Any, src: int) -> Any:
        import mlx.core as mx

        block = mx.distributed.recv(shape, dtype, src, group=self._group, stream=mx.cpu)
        mx.eval(block)
        return block

    def _check(self, rank: int) -> None:
        if rank == self.rank or not 0 <= rank < self.size:
            raise ValueError(f"rank {rank} is not a peer of rank {self.rank} in a group of {self.size}")

    def _release(self) -> None:
        if self._launcher is not None:
            self._launcher.end()


def rows_of_blocks(shape: Sequence[int]) -> list[int]:
    """How many rows each block of an array has; none when it crosses as one. Raises ValueError if none can."""
    if math.prod(shape) <= PIECE:
        return []
    row = math.prod(shape[1:])
    if row > PIECE:
        raise ValueError(f"MPI moves at most {PIECE} elements at once, a row of this array has {row}")
    most = PIECE // row
    return [min(most, shape[0] - begin) for begin in range(0, shape[0], most)]
