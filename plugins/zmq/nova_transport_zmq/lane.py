"""The two directions between this rank and a peer: parts of exact length over ZeroMQ frames.

Every part stands behind its length (8 bytes, little endian). Small parts share one frame with their lengths; a
large part follows its length in frames of CHUNK bytes and a last shorter one, which are received straight into
the destination. Sending copies into ZeroMQ's frames: a lent buffer would have to be waited for until the peer's
kernel has taken it, while these copies overlap with the I/O thread that writes (and encrypts) the frame before.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Sequence
from typing import Any

import zmq

from nova.clock import Deadline
from nova.errors import LengthMismatch, PeerLost, TransferTimeout, TransportError
from nova.transport.life import Life
from nova_transport_zmq.errors import translate
from nova_transport_zmq.wire import CHUNK, Wire

SMALL = 64 << 10
"""Bytes of lengths and parts that share a frame."""

GRACE_S = 0.05
"""ZeroMQ tells of a connection's end a moment before it hands over the last frames that came through it."""

EAGER_S = 0.02
"""How long a receiver waits in a way that only this, and no abort, ends."""

_LENGTH = struct.Struct("<Q")


class _Direction:
    """A wire with the group's life. Used by one thread at a time."""

    def __init__(self, wire: Wire, rank: int, life: Life, wake: int) -> None:
        self._wire = wire
        self._socket = wire.socket
        self._rank = rank
        self._life = life
        self._watched: list[tuple[Any, int]] = [
            (self._socket, self._event),
            (wire.monitor, zmq.POLLIN),
            (wake, zmq.POLLIN),
        ]

    _event = zmq.POLLIN

    def _await(self, deadline: Deadline, moved: bool) -> None:
        """Wait until the socket is ready; `moved` says whether bytes of this call have crossed already."""
        with self._wire.watching:
            while True:
                gone = self._wire.gone  # what had arrived before is still there to be read
                patience = min(deadline.remaining(), GRACE_S) if gone else deadline.remaining()
                ready = zmq.zmq_poll(self._watched, math.ceil(patience * 1000))
                if any(item is self._socket for item, _ in ready):
                    return
                if not ready and gone:
                    raise self._life.broke(PeerLost(self._rank, "its connection ended"))
                if not ready:
                    words = f"rank {self._rank} let the deadline pass" + (" inside a part" if moved else "")
                    late = TransferTimeout(words)
                    raise self._life.broke(late) if moved else late
                self._life.check()
                self._wire.look()

    def _failed(self, error: zmq.ZMQError) -> TransportError:
        return self._life.broke(translate(error, rank=self._rank))


class Outlet(_Direction):
    """Towards the peer."""

    _event = zmq.POLLOUT

    def send(self, parts: Sequence[bytes | memoryview], deadline: Deadline) -> None:
        together: list[bytes | memoryview] = []
        size = 0
        for part in parts:
            together += (_LENGTH.pack(len(part)), part)
            size += _LENGTH.size + len(part)
        if size > SMALL:
            self._send_large(parts, deadline)
        elif size:  # as a rule: one frame for all
            self._frame(b"".join(together), deadline, moved=False)

    def _send_large(self, parts: Sequence[bytes | memoryview], deadline: Deadline) -> None:
        moved = False
        small: list[bytes | memoryview] = []
        size = 0
        for part in parts:
            if size + _LENGTH.size + len(part) > SMALL and size:
                moved = self._frame(b"".join(small), deadline, moved)
                small, size = [], 0
            small.append(_LENGTH.pack(len(part)))
            size += _LENGTH.size
            if size + len(part) <= SMALL:
                small.append(part)
                size += len(part)
                continue
            moved = self._frame(b"".join(small), deadline, moved)
            small, size = [], 0
            view = memoryview(part)
            for start in range(0, len(view), CHUNK):
                self._frame(view[start : start + CHUNK], deadline, moved)
        if size:
            self._frame(b"".join(small), deadline, moved)

    def _frame(self, data: bytes | memoryview, deadline: Deadline, moved: bool) -> bool:
        while True:
            try:
                self._socket.send(data, zmq.NOBLOCK)
            except zmq.Again:
                self._await(deadline, moved)
            except zmq.ZMQError as error:
                raise self._failed(error) from error
            else:
                return True


class Inlet(_Direction):
    """From the peer."""

    def __init__(self, wire: Wire, rank: int, life: Life, wake: int) -> None:
        super().__init__(wire, rank, life, wake)
        self._socket.setsockopt(zmq.RCVTIMEO, int(EAGER_S * 1000))
        self._stage = memoryview(b"")  # what is left of the last shared frame

    def take(self, out: memoryview) -> bool:
        """Take a part of the right length that came in one frame with the part before; else `receive` sees to it."""
        stage, stop = self._stage, _LENGTH.size + len(out)
        if len(stage) < stop or self._life.over or _LENGTH.unpack_from(stage)[0] != len(out):
            return False
        out[:] = stage[_LENGTH.size : stop]
        self._stage = stage[stop:]
        return True

    def receive(self, out: memoryview, deadline: Deadline) -> None:
        try:
            if not self._stage:
                self._stage = self._shared(deadline)
            if not self.take(out):
                self._receive(out, deadline)
        except zmq.ZMQError as error:
            raise self._failed(error) from error

    def _receive(self, out: memoryview, deadline: Deadline) -> None:
        if len(self._stage) < _LENGTH.size:
            raise self._mismatch(f"a frame of {len(self._stage)} bytes where a length was awaited")
        (length,) = _LENGTH.unpack_from(self._stage)
        if length != len(out):
            raise self._mismatch(f"{length} bytes, {len(out)} were awaited")
        rest = self._stage[_LENGTH.size :]
        if rest or not length:
            if len(rest) < length:
                raise self._mismatch(f"{len(rest)} of {length} bytes in a shared frame")
            out[:] = rest[:length]
            self._stage = rest[length:]
            return
        self._stage = rest
        for start in range(0, length, CHUNK):
            into = out[start : start + CHUNK]
            self._await(deadline, moved=True)
            got = self._socket.recv_into(into, flags=zmq.NOBLOCK)
            if got != len(into):
                raise self._mismatch(f"a frame of {got} bytes, {len(into)} were awaited")

    def _shared(self, deadline: Deadline) -> memoryview:
        """The next frame of lengths and small parts. A short wait is spent inside `recv`, at half the cost of poll."""
        if deadline.remaining() > EAGER_S:
            with contextlib.suppress(zmq.Again):
                return self._socket.recv(copy=False).buffer
        self._await(deadline, moved=False)
        return self._socket.recv(copy=False).buffer

    def _mismatch(self, what: str) -> TransportError:
        return self._life.broke(LengthMismatch(f"rank {self._rank} sent {what}"))
