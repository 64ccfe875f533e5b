"""Chunks over a group: header and tensor out without a copy, and a thread that receives ahead of the computation.

Chunks flow one way round the ring of ranks: hidden states from stage r to r+1, token ids from the last stage back
to stage 0. So each engine receives from one peer and sends to one peer.

A received tensor lands directly in memory that MLX owns (an evaluated uint8 array, written through its buffer), so
it is never copied again. Such a slot goes back to the pool once the chunk's outputs are evaluated. There are as many
slots as tensors that may be under way in the whole ring, so the receiving thread is never kept from reading by a slow
computation, and no two neighbours can wait for each other's sends.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import cast

import mlx.core as mx
import numpy as np

from nova.clock import Deadline
from nova.engine.schedule import window
from nova.errors import EngineError, GroupClosed, NovaError, TransferTimeout
from nova.transport.api import Buffer, Group
from nova.wire.tensor import HEADER_BYTES, Header

IDLE_S = 3600.0
"""How long one wait for the next chunk lasts before it is taken up again: idling is not an error."""


@dataclass
class Received:
    """A chunk as it arrived. `slot`, None for a chunk without a tensor, must be given back with `Link.release` when
    nothing refers to it any more."""

    header: Header
    slot: mx.array | None
    at_ns: int

    def array(self) -> mx.array:
        """The tensor, sharing the slot's memory."""
        assert self.slot is not None
        data = self.slot[: self.header.nbytes] if self.slot.size != self.header.nbytes else self.slot
        return data.view(getattr(mx, self.header.layout.dtype)).reshape(self.header.layout.shape)


@dataclass
class LinkFailed:
    """The receiving side broke; nothing more will come."""

    error: NovaError


class Link:
    """One engine's place in the ring of chunks."""

    def __init__(
        self, group: Group, inbox: queue.SimpleQueue[object], transfer_s: float, max_tensor_bytes: int
    ) -> None:
        self.group = group
        self._inbox = inbox
        self._transfer_s = transfer_s
        self._limit = max_tensor_bytes
        self._head = memoryview(bytearray(HEADER_BYTES))
        self._next = (group.rank + 1) % group.size
        self._previous = (group.rank - 1) % group.size
        self._free: queue.SimpleQueue[mx.array | None] = queue.SimpleQueue()
        for _ in range(window(group.size)):
            self._free.put(None)
        self._thread = threading.Thread(target=self._receive_all, name="nova-receive", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, header: Header, tensor: mx.array) -> None:
        """Send an evaluated, contiguous array to the next rank. Raises TransportError."""
        parts: list[Buffer] = [header.pack()]
        if tensor.size:
            parts.append(bytes_of(tensor))
        self.group.send(parts, self._next, Deadline.after(self._transfer_s))

    def release(self, chunk: Received) -> None:
        """The chunk's tensor is no longer referred to: its memory may be written again."""
        if chunk.slot is not None:
            self._free.put(chunk.slot)

    def _receive_all(self) -> None:
        try:
            while True:
                self._inbox.put(self._receive())
        except GroupClosed:
            return
        except Exception as error:  # noqa: BLE001  the thread's edge: the compute thread must hear of everything
            known = error if isinstance(error, NovaError) else EngineError(f"receiving failed: {error!r}")
            self._inbox.put(LinkFailed(known))

    def _receive(self) -> Received:
        while True:
            try:
                self.group.recv_into(self._head, self._previous, Deadline.after(IDLE_S))
                break
            except TransferTimeout:
                continue
        at_ns = time.monotonic_ns()
        header = Header.unpack(self._head, self._limit)
        if not header.nbytes:
            return Received(header, None, at_ns)
        slot = self._slot(header.nbytes)
        body = memoryview(cast("bytes", slot))[: header.nbytes]
        self.group.recv_into(body, self._previous, Deadline.after(self._transfer_s))
        return Received(header, slot, at_ns)

    def _slot(self, nbytes: int) -> mx.array:
        slot = self._free.get()
        if slot is None or slot.size < nbytes:
            slot = mx.zeros((nbytes,), mx.uint8)
            mx.eval(slot)
        return slot


def bytes_of(tensor: mx.array) -> memoryview:
    """The bytes of an evaluated array, not copied. A non-contiguous array raises BufferError.

    Going through `memoryview` is what refuses a strided array: sockets take MLX's buffer as if it were contiguous
    and would send the wrong bytes. NumPy then drops the format, because `bfloat16` is none that Python can cast.
    """
    return np.frombuffer(memoryview(cast("bytes", tensor)), np.uint8).data
