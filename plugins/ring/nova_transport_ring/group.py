"""A formed ring: arrays between neighbours, and MLX's own group for collectives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

from nova.clock import Deadline
from nova.errors import TransferTimeout
from nova.transport.api import Caps, Group, Seat
from nova.transport.life import Life
from nova_transport_ring.connections import Connections
from nova_transport_ring.errors import translate
from nova_transport_ring.links import neighbours

CAPS = Caps.ARRAYS | Caps.COLLECTIVES | Caps.PEER_FAILURE | Caps.FULL_DUPLEX | Caps.INTER_HOST
"""No DEADLINE: MLX's calls know none. No ABORT: a call is woken by the end of its connection, which MLX has no function
for. No REFORM: MLX keeps one group per process. Not AUTHENTICATED: the ticket is proved when neighbours dial each
other, but MLX makes its connections anew and asks nobody who he is."""

COLLECTIVES = ("all_sum", "all_max", "all_min", "all_gather")

T = TypeVar("T")


class RingGroup(Group):
    """An ArrayGroup and a CollectiveGroup.

    One sending call and one receiving call at a time, each on the CPU stream of its own thread, which MLX gives every
    thread. A second operation after an error may hang for ever in MLX, so the first error breaks the group.
    """

    caps = CAPS
    collectives = frozenset(COLLECTIVES)

    def __init__(self, seat: Seat, native: Any, connections: Connections) -> None:
        self.rank = seat.rank
        self.size = seat.size
        self._native = native
        self._neighbours = neighbours(seat.rank, seat.size)
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self._connections = connections
        self._life = Life(connections.shut, connections.release)

    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        """See `nova.transport.api.ArrayGroup`; returns when the kernel has the array. An empty array sends nothing.

        Raises ValueError for an array that is not contiguous, or a rank that is no neighbour.
        """
        import mlx.core as mx

        if not memoryview(array).c_contiguous:
            raise ValueError(f"an array must be contiguous, this one of shape {tuple(array.shape)} is not")

        def send() -> None:
            if array.size:
                mx.eval(mx.distributed.send(array, dst, group=self._native, stream=mx.cpu))

        self._in_turn(self._sending, send, dst, deadline)

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        """See `nova.transport.api.ArrayGroup`. Raises ValueError for a rank that is no neighbour."""
        import mlx.core as mx

        def recv() -> Any:
            if not prod(shape):
                return mx.zeros(shape, dtype, stream=mx.cpu)
            array = mx.distributed.recv(shape, dtype, src, group=self._native, stream=mx.cpu)
            mx.eval(array)
            return array

        return self._in_turn(self._receiving, recv, src, deadline)

    def native(self) -> Any:
        """MLX's group. Its operations and this group's must not overlap: they share the connections."""
        return self._native

    def close(self, deadline: Deadline) -> None:
        """Does not wait: what was sent is the kernel's already, which delivers it before the connection's end."""
        self._life.close()

    def abort(self) -> None:
        """Ends the connections, so that the neighbours see it."""
        self._life.close()

    def _in_turn(self, turn: threading.Lock, operation: Callable[[], T], rank: int, deadline: Deadline) -> T:
        if rank not in self._neighbours:
            raise ValueError(f"rank {self.rank} has no link to rank {rank}: a ring connects neighbours only")
        with self._life:
            if not turn.acquire(timeout=deadline.remaining()):
                raise TransferTimeout(f"another transfer was under way until the deadline of this, with rank {rank}")
            try:
                self._life.check()  # it may have ended while this call waited
                return operation()
            except (RuntimeError, ValueError) as error:
                self._connections.shut()  # the other neighbour is to see it too
                raise self._life.broke(translate(error, rank=rank)) from error
            finally:
                turn.release()
