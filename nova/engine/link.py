"""Chunks over the lanes: header and tensor out without a copy, and a thread that receives ahead of the computation.

Chunks flow one way round the ring of ranks: hidden states from stage r to r+1, token ids from the last stage back
to stage 0. So each engine receives from one peer and sends to one peer.

A received tensor lands directly in memory that MLX owns (an evaluated uint8 array, written through its buffer), so
it is never copied again. Such a slot goes back to the pool once the chunk's outputs are evaluated. There are as many
slots as tensors that may be under way in the whole ring, so the receiving thread is never kept from reading by a slow
computation, and no two neighbours can wait for each other's sends. A group of arrays makes its own memory.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import cast

import mlx.core as mx
import numpy as np
import structlog

from nova.clock import Deadline
from nova.engine.control import Transfers
from nova.engine.failure import PluginCall, described
from nova.engine.lanes import Lanes
from nova.engine.schedule import window
from nova.errors import EngineError, GroupClosed, NovaError, TransferTimeout, TransportFault
from nova.transport.api import ArrayGroup, Buffer
from nova.wire.tensor import HEADER_BYTES, Header, Kind

log = structlog.get_logger(__name__)

IDLE_S = 3600.0
"""How long one wait for the next chunk lasts before it is taken up again: idling is not an error."""

MAX_WAITING = 4096
"""Chunks and messages that wait for the computation. Those with a tensor are bounded by their slots; this is for the
rest, of which there is one per request."""


@dataclass
class Received:
    """A chunk as it arrived. `slot`, None for a chunk without bytes, must be given back with `Link.release` when
    nothing refers to it any more; `tensor` is what came as an array."""

    header: Header
    slot: mx.array | None
    at_ns: int
    tensor: mx.array | None = None

    def array(self) -> mx.array:
        """The tensor, sharing the slot's memory."""
        if self.tensor is not None:
            return self.tensor
        assert self.slot is not None
        data = self.slot[: self.header.nbytes] if self.slot.size != self.header.nbytes else self.slot
        return data.view(getattr(mx, self.header.layout.dtype)).reshape(self.header.layout.shape)


@dataclass(frozen=True)
class Limits:
    """What a link keeps to. `generation` is the group's; chunks of another one are dropped."""

    transfer_s: float
    max_tensor_bytes: int
    generation: int


@dataclass
class LinkFailed:
    """The receiving side broke; nothing more will come."""

    error: NovaError


class Link:
    """One engine's place in the ring of chunks."""

    def __init__(self, lanes: Lanes, inbox: queue.SimpleQueue[object], transfers: Transfers, limits: Limits) -> None:
        self._frames, self._arrays = lanes.frames, lanes.arrays
        self._inbox = inbox
        self._transfers = transfers
        self._limits = limits
        self._head = memoryview(bytearray(HEADER_BYTES))
        self._next = (lanes.rank + 1) % lanes.size
        self._previous = (lanes.rank - 1) % lanes.size
        self._sending = guarded(f"in a send to rank {self._next}")
        self._receiving = guarded(f"in a receive from rank {self._previous}")
        self._free: queue.SimpleQueue[mx.array | None] = queue.SimpleQueue()
        for _ in range(window(lanes.size)):
            self._free.put(None)
        self._thread = threading.Thread(target=self._receive_all, name="nova-receive", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, header: Header, tensor: mx.array) -> None:
        """Send an evaluated, contiguous array to the next rank. Raises TransportError."""
        header.generation = self._limits.generation
        parts: list[Buffer] = [header.pack()]
        apart = self._arrays if tensor.size and header.kind is Kind.HIDDEN else None
        if tensor.size and apart is None:
            parts.append(bytes_of(tensor))
        self._transfers.sending_since = time.monotonic()
        deadline = Deadline.after(self._limits.transfer_s)
        with self._sending:
            self._frames.send(parts, self._next, deadline)
            if apart is not None:
                apart.send_array(tensor, self._next, deadline)
        self._transfers.sending_since = None

    def release(self, chunk: Received) -> None:
        """The chunk's tensor is no longer referred to: its memory may be written again."""
        if chunk.slot is not None:
            self._free.put(chunk.slot)

    def _receive_all(self) -> None:
        late = 0
        try:
            while True:
                received = self._receive()
                if received.header.generation == self._limits.generation:
                    self._hand_over(received)
                    continue
                late += 1  # what comes here belongs to a group that is no more
                if late & (late - 1) == 0:
                    log.warning("late chunk dropped", generation=received.header.generation, count=late)
                self.release(received)
        except GroupClosed:
            return
        except BaseException as error:  # noqa: BLE001  the thread's edge: the compute thread must hear of everything
            known = error if isinstance(error, NovaError) else EngineError(f"receiving failed: {described(error)}")
            self._inbox.put(LinkFailed(known))

    def _hand_over(self, received: Received) -> None:
        if self._inbox.qsize() >= MAX_WAITING:
            raise TransportFault(f"more than {MAX_WAITING} chunks from rank {self._previous} wait to be computed")
        self._inbox.put(received)

    def _receive(self) -> Received:
        self._await_header()
        header = Header.unpack(self._head, self._limits.max_tensor_bytes)
        if not header.nbytes:
            return Received(header, None, time.monotonic_ns())
        self._transfers.receiving_since = time.monotonic()
        deadline = Deadline.after(self._limits.transfer_s)
        with self._receiving:
            if self._arrays is not None and header.kind is Kind.HIDDEN:
                tensor = self._array(self._arrays, header, deadline)
                received = Received(header, None, time.monotonic_ns(), tensor)
            else:
                slot = self._slot(header.nbytes)
                self._frames.recv_into(memoryview(cast("bytes", slot))[: header.nbytes], self._previous, deadline)
                received = Received(header, slot, time.monotonic_ns())
        self._transfers.receiving_since = None
        return received

    def _await_header(self) -> None:
        while True:
            deadline = Deadline.after(IDLE_S)
            try:
                with self._receiving:
                    self._frames.recv_into(self._head, self._previous, deadline)
                return
            except TransferTimeout as error:
                if not deadline.expired:  # or it would be asked again at once, for ever
                    raise TransportFault(f"the transport gave up before its deadline: {error}") from error

    def _array(self, arrays: ArrayGroup, header: Header, deadline: Deadline) -> mx.array:
        """Raises TransportFault for another array than the header announced."""
        shape, dtype = header.layout.shape, getattr(mx, header.layout.dtype)
        tensor: mx.array = arrays.recv_array(shape, dtype, self._previous, deadline)
        if (tuple(tensor.shape), tensor.dtype) != (tuple(shape), dtype):
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise TransportFault(f"rank {self._previous} announced {dtype} {tuple(shape)}, and {got} came")
        return tensor

    def _slot(self, nbytes: int) -> mx.array:
        slot = self._free.get()
        if slot is None or slot.size < nbytes:
            slot = mx.zeros((nbytes,), mx.uint8)
            mx.eval(slot)
        return slot


def guarded(where: str) -> PluginCall:
    """Round a plugin's call: it may raise anything, SystemExit included."""
    return PluginCall(lambda said: TransportFault(f"the transport raised {said} {where}"))


def bytes_of(tensor: mx.array) -> memoryview:
    """The bytes of an evaluated array, not copied. A non-contiguous array raises BufferError.

    Going through `memoryview` is what refuses a strided array: sockets take MLX's buffer as if it were contiguous
    and would send the wrong bytes. NumPy then drops the format, because `bfloat16` is none that Python can cast.
    """
    return np.frombuffer(memoryview(cast("bytes", tensor)), np.uint8).data
