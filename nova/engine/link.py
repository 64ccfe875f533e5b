"""Chunks over the lanes: tensors in and out without a copy, and threads that move them beside the computation.

Chunks flow one way round the ring of ranks: hidden states from stage r to r+1, token ids from the last stage back
to stage 0. So each engine receives from one peer and sends to one peer.

A received tensor lands directly in memory that MLX owns (an evaluated uint8 array, written through its buffer), so
it is never copied again. Such a slot goes back to the pool once nothing refers to it: when the chunk's outputs are
evaluated, and what was made of it is sent. There are as many slots as tensors that may be under way in the whole ring,
so the receiving thread is never kept from reading by a slow computation, and no two neighbours can wait for each
other's sends. A group of arrays makes its own memory.

A large tensor is sent by a thread, so that the next chunk is computed while it travels. A small one is sent at once by
whoever calls, because waking a thread costs more than its send: see INLINE_BYTES.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import mlx.core as mx
import numpy as np
import structlog

from nova.clock import Deadline
from nova.engine.control import Transfers
from nova.engine.failure import PluginCall, described
from nova.engine.lanes import Lanes
from nova.engine.scheduler import window
from nova.errors import EngineError, GroupClosed, NovaError, TransferTimeout, TransportFault
from nova.transport.api import ArrayGroup, Buffer
from nova.wire.rows import MAX_ROWS, ROW_BYTES
from nova.wire.tensor import HEADER_BYTES, Header, Kind

log = structlog.get_logger(__name__)

IDLE_S = 3600.0
"""How long one wait for the next chunk lasts before it is taken up again: idling is not an error."""

MAX_WAITING = 4096
"""Chunks and messages that wait for the computation. Those with a tensor are bounded by their slots; this is for the
rest, of which there is one per request."""


INLINE_BYTES = 64 << 10
"""bytes; a tensor up to this is sent by the thread that computed it, unless others wait to be sent.

Measured over loopback, such a send takes 16 us, and to wake the sending thread 5 us. But that thread then waits for
the interpreter while the caller builds its next graph: for `sys.getswitchinterval()`, as a rule 5 ms, if need be.
For a large tensor that is little beside its travel; a token would come late.
"""


@dataclass
class Received:
    """A chunk as it arrived. `slot`, None for a chunk without bytes, must be given back when nothing refers to it any
    more, by `Link.release` or with the send of what was made of it; `tensor` is what came as an array."""

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
    """The receiving or the sending side broke; nothing more will come or go."""

    error: NovaError


@dataclass
class _Outgoing:
    """A chunk on its way out: its parts, and its tensor if that goes as an array. `made_of` is released behind it."""

    parts: list[Buffer]
    array: mx.array | None
    made_of: Received | None


class Link:
    """One engine's place in the ring of chunks."""

    def __init__(self, lanes: Lanes, inbox: queue.SimpleQueue[object], transfers: Transfers, limits: Limits) -> None:
        self._frames, self._arrays = lanes.frames, lanes.arrays
        self._inbox = inbox
        self._transfers = transfers
        self._limits = limits
        self._head = memoryview(bytearray(HEADER_BYTES))
        self._rows = memoryview(bytearray(MAX_ROWS * ROW_BYTES))
        self._next = (lanes.rank + 1) % lanes.size
        self._previous = (lanes.rank - 1) % lanes.size
        self._sending = guarded(f"in a send to rank {self._next}")
        self._receiving = guarded(f"in a receive from rank {self._previous}")
        self._free: queue.SimpleQueue[mx.array | None] = queue.SimpleQueue()
        for _ in range(window(lanes.size)):
            self._free.put(None)
        self._outgoing: queue.Queue[_Outgoing | None] = queue.Queue(window(lanes.size))
        self._broken: NovaError | None = None
        self._thread = threading.Thread(target=self._receive_all, name="nova-receive", daemon=True)
        self._sender = threading.Thread(target=self._send_all, name="nova-send", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._sender.start()

    def send(self, header: Header, tensor: mx.array, made_of: Received | None = None) -> None:
        """Send an evaluated, contiguous array to the next rank, then release the chunk that it was `made_of`.

        It may be sent after the return; chunks keep their order. Raises TransportError for this send or an earlier one;
        what goes wrong after the return reaches the inbox as LinkFailed, too.
        """
        if self._broken is not None:
            raise self._broken
        header.generation = self._limits.generation
        parts: list[Buffer] = [header.pack(), header.pack_rows()]
        array = tensor if tensor.size and self._arrays is not None and header.kind is Kind.HIDDEN else None
        if tensor.size and array is None:
            parts.append(bytes_of(tensor))
        outgoing = _Outgoing(parts, array, made_of)
        # Arrays all go by one thread. Only the caller fills the queue: while it is done with all of it, it stays so.
        if array is None and header.nbytes <= INLINE_BYTES and not self._outgoing.unfinished_tasks:
            self._send(outgoing)
            return
        try:
            self._outgoing.put(outgoing, timeout=self._limits.transfer_s)
        except queue.Full:
            late = f"{self._outgoing.maxsize} chunks wait to be sent to rank {self._next}"
            raise TransferTimeout(f"{late}, and none went in {self._limits.transfer_s:g} s") from None

    def release(self, chunk: Received) -> None:
        """The chunk's tensor is no longer referred to: its memory may be written again."""
        if chunk.slot is not None:
            self._free.put(chunk.slot)

    # --- sending ----------------------------------------------------------------------------------------------------

    def _send(self, outgoing: _Outgoing) -> None:
        self._transfers.sending_since = time.monotonic()
        deadline = Deadline.after(self._limits.transfer_s)
        with self._sending:
            self._frames.send(outgoing.parts, self._next, deadline)
            if self._arrays is not None and outgoing.array is not None:
                self._arrays.send_array(outgoing.array, self._next, deadline)
        self._transfers.sending_since = None
        if outgoing.made_of is not None:
            self.release(outgoing.made_of)

    def _send_all(self) -> None:
        try:
            while (outgoing := self._outgoing.get()) is not None:
                self._send(outgoing)
                del outgoing  # not held on to until the next one comes
                self._outgoing.task_done()
        except BaseException as error:  # noqa: BLE001  the thread's edge: the compute thread must hear of everything
            self._broken = self._failed(error, "sending")

    def _failed(self, error: BaseException, what: str) -> NovaError:
        """A thread ends with this error: tell the compute thread, unless the group was ended from here."""
        known = error if isinstance(error, NovaError) else EngineError(f"{what} failed: {described(error)}")
        if not isinstance(known, GroupClosed):
            self._inbox.put(LinkFailed(known))
        return known

    # --- receiving --------------------------------------------------------------------------------------------------

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
        except BaseException as error:  # noqa: BLE001  the thread's edge: the compute thread must hear of everything
            self._failed(error, "receiving")
        finally:
            with suppress(queue.Full):  # full: it is sending, and learns of the group's end by that
                self._outgoing.put_nowait(None)

    def _hand_over(self, received: Received) -> None:
        if self._inbox.qsize() >= MAX_WAITING:
            raise TransportFault(f"more than {MAX_WAITING} chunks from rank {self._previous} wait to be computed")
        self._inbox.put(received)

    def _receive(self) -> Received:
        self._await_header()
        header = Header.unpack(self._head, self._limits.max_tensor_bytes)
        self._transfers.receiving_since = time.monotonic()
        deadline = Deadline.after(self._limits.transfer_s)
        rows = self._rows[: header.row_bytes]
        with self._receiving:
            self._frames.recv_into(rows, self._previous, deadline)
        header.unpack_rows(rows)
        with self._receiving:
            if not header.nbytes:
                received = Received(header, None, time.monotonic_ns())
            elif self._arrays is not None and header.kind is Kind.HIDDEN:
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
