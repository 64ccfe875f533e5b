"""One join: the neighbours meet, all ranks go at once, and MLX forms its ring.

MLX's init holds the interpreter's lock for all of its time, knows no deadline, and takes the first connection from
anybody. So it begins only when every link has been dialled and no listener of ours is left that a connection of
MLX could end in: one exchange tells all ranks what was reached, a second one that all have closed their listeners.

In there each rank first accepts and then connects to the next one; only the last rank connects first, to rank 0. A
connection that is refused is tried again after 1 s, and nothing can tell when rank 0 listens, because it is in
init. So the last rank gives the others a head start: what init needs before it listens, a few milliseconds.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import structlog

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import MAX_CARD_BYTES, Rendezvous, Seat
from nova.wire import phases
from nova_transport_ring.config import RingConfig
from nova_transport_ring.connections import Connections
from nova_transport_ring.environment import described
from nova_transport_ring.errors import NAME, translate
from nova_transport_ring.group import RingGroup
from nova_transport_ring.links import Card, Listener, Reached, agree, host_file, neighbours, targets
from nova_transport_ring.meeting import Meeting

log = structlog.get_logger(__name__)

BARRIER = 64
"""int32s of the first sum: more elements than ranks."""

ONCE = "this process has begun a ring before, and MLX forms one per process"

_formed = threading.Lock()
"""Taken before the first init of this process and never released: MLX would hand out the same group again."""


def is_spent() -> bool:
    """Whether this process can form no ring any more."""
    return _formed.locked()


class Forming:
    """The state of one join. `cards` are by rank; the listeners are closed when it ends."""

    def __init__(self, seat: Seat, config: RingConfig, cards: Sequence[Card]) -> None:
        self._seat = seat
        self._config = config
        self._cards = cards

    def run(self, listeners: Sequence[socket.socket], rendezvous: Rendezvous, deadline: Deadline) -> RingGroup:
        """Raises FormingFailed. May outlast the deadline inside MLX, where only a signal ends it."""
        import mlx.core as mx  # takes a moment, which nobody should have to wait for after the go

        rank, size = self._seat.rank, self._seat.size
        links = self._meet(listeners, rendezvous, deadline)
        if not _formed.acquire(blocking=False):
            raise self._failed(ONCE)
        rendezvous.all_gather(b"go", deadline)
        native = self._init(links)
        if (native.rank(), native.size()) != (rank, size):
            raise self._failed(f"MLX says rank {native.rank()} of {native.size()}, expected {rank} of {size}")
        try:  # a barrier: init may return here while the others are still in it
            sums = mx.distributed.all_sum(mx.ones((BARRIER,), mx.int32, stream=mx.cpu), group=native, stream=mx.cpu)
            found = cast("list[int]", sums.tolist())
        except RuntimeError as error:
            raise translate(error, phase=phases.JOIN, own=rank) from error
        if found != [size] * BARRIER:
            raise self._failed(f"the first sum over {size} ranks gave {found[:4]}: a stranger is in the ring")
        return RingGroup(self._seat, native, Connections(links[rank], links[(rank + 1) % size]))

    def _meet(
        self, listeners: Sequence[socket.socket], rendezvous: Rendezvous, deadline: Deadline
    ) -> list[list[Listener]]:
        ours = self._cards[self._seat.rank]
        dialled = {rank: targets(ours, self._cards[rank]) for rank in neighbours(self._seat.rank, self._seat.size)}

        def exchange(reached: Reached) -> list[bytes]:
            return rendezvous.all_gather(msgspec.json.encode(reached), deadline)

        blobs = asyncio.run(Meeting(self._seat, self._config, dialled).run(listeners, exchange, deadline))
        try:
            reached = [self._reached(blob) for blob in blobs]
            return agree(self._cards, reached, self._config.sockets)
        except (msgspec.DecodeError, ValueError) as error:
            raise self._failed(str(error)) from error

    def _reached(self, blob: bytes) -> dict[int, list[str]]:
        """Raises msgspec.DecodeError."""
        if len(blob) > MAX_CARD_BYTES:
            raise msgspec.DecodeError(f"a rank reports {len(blob)} bytes")
        return msgspec.json.decode(blob, type=dict[int, list[str]])

    def _init(self, links: Sequence[Sequence[Listener]]) -> Any:
        import mlx.core as mx

        rank, size = self._seat.rank, self._seat.size
        try:
            with described(rank, host_file(rank, links), self._config.verbose):
                if rank == size - 1:
                    threading.Event().wait(self._config.head_start_s)
                log.info(
                    "MLX's ring init begins; it blocks until every rank is there",
                    rank=rank, size=size, sockets=len(links[rank]), right=[str(at) for at in links[(rank + 1) % size]],
                )  # fmt: skip
                return mx.distributed.init(strict=True, backend="ring")
        except (RuntimeError, ValueError, OSError) as error:
            raise translate(error, phase=phases.JOIN, own=rank) from error

    def _failed(self, cause: str) -> FormingFailed:
        return FormingFailed(phases.JOIN, NAME, self._seat.rank, cause)
