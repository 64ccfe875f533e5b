"""The connection to one peer: parts of exact length over a byte stream.

On the wire every part stands behind its length (8 bytes, little endian). A sender hands the lengths and the parts
to the kernel in one call, without joining them. A receiver reads into a staging buffer first, so that a small
chunk's lengths, header and payload cost one call; the rest of a large part goes straight to its destination.

The socket blocks, and the kernel keeps the deadlines (SO_RCVTIMEO, SO_SNDTIMEO): a wait is the transfer itself, one
system call instead of a poll and a transfer, which is what a 16 KiB round trip notices. A large send goes in pieces,
because macOS starts its timeout afresh whenever a byte moves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from time import monotonic

from nova.clock import Deadline
from nova.errors import LengthMismatch, PeerLost, TransferTimeout
from nova.transport.api import Buffer, WritableBuffer
from nova.transport.buffers import flat, writable
from nova.transport.life import Life
from nova_transport_tcp.errors import translate

_LENGTH = struct.Struct("<Q")
_TIMEVAL = struct.Struct("@ll")
_IOV_MAX = min(1024, os.sysconf("SC_IOV_MAX")) if os.sysconf("SC_IOV_MAX") > 0 else 1024

PIECE = 8 << 20
"""Bytes handed to the kernel in one call at most."""

TOLERANCE_S = 0.01
"""By so much a wait may outlast its deadline: it spares the call that would set the kernel's timeout afresh."""

UNSET = float("inf")


class Lane:
    """One thread may send while another receives. Every error of a peer or link breaks the group's `life`.

    `send` and `receive` do their usual work in one body each: after a wait every further Python call is paid for
    with cold caches, and a 16 KiB round trip is hardly longer than thirty of them.
    """

    def __init__(self, sock: socket.socket, rank: int, life: Life, staging_bytes: int) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._rank = rank
        self._life = life
        self._stage = memoryview(bytearray(staging_bytes))
        self._start = self._end = 0
        self._send_s = self._receive_s = UNSET  # the kernel's timeouts

    def send(self, parts: Sequence[Buffer], deadline: Deadline) -> None:
        """See `nova.transport.api.Group.send`."""
        queue: list[bytes | memoryview] = []
        left, moved = 0, False
        for part in parts:
            view = part if type(part) is bytes else flat(part)
            size = len(view)
            queue += (_LENGTH.pack(size), view)
            left += _LENGTH.size + size
        life = self._life
        life.inside.append(None)
        try:
            if life.over:
                life.check()
            while left:
                if not -TOLERANCE_S < deadline.at - monotonic() - self._send_s < TOLERANCE_S:
                    self._send_s = self._arm(socket.SO_SNDTIMEO, deadline, moved)
                try:
                    sent = self._sock.sendmsg(queue if left <= PIECE and len(queue) <= _IOV_MAX else _piece(queue))
                except BlockingIOError:
                    self._send_s = UNSET  # the kernel's timeout; whether it was the deadline is seen above
                    continue
                except OSError as error:
                    raise life.broke(translate(error, rank=self._rank)) from error
                left -= sent
                moved = True
                if left:
                    queue = _rest(queue, sent)
        finally:
            life.inside.pop()
            if life.over:
                life.leave()

    def receive(self, out: WritableBuffer, deadline: Deadline) -> None:
        """See `nova.transport.api.Group.recv_into`."""
        view = writable(out)
        begin = self._start + _LENGTH.size
        stop = begin + len(view)
        life = self._life
        if stop > self._end or life.over:  # else it has arrived with the part before
            life.inside.append(None)
            try:
                if life.over:
                    life.check()
                if self._start == self._end:
                    begin, stop = _LENGTH.size, _LENGTH.size + len(view)
                    self._start, self._end = 0, self._read(self._stage, deadline, moved=False)
                if stop > self._end:
                    self._receive_rest(view, deadline)
                    return
            finally:
                life.inside.pop()
                if life.over:
                    life.leave()
        if _LENGTH.unpack_from(self._stage, self._start)[0] != len(view):
            raise self._mismatch(len(view))
        view[:] = self._stage[begin:stop]
        self._start = stop

    def shut(self) -> None:
        """Wake blocked calls and tell the peer; what the kernel has taken still arrives."""
        with contextlib.suppress(OSError):  # the peer was faster
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    def _receive_rest(self, view: memoryview, deadline: Deadline) -> None:
        """A part that is not whole in the staging buffer: take what is there, and read the rest where it belongs."""
        while self._end - self._start < _LENGTH.size:
            left = self._end - self._start
            self._stage[:left] = self._stage[self._start : self._end]
            self._start, self._end = 0, left
            self._end += self._read(self._stage[left:], deadline, moved=True)
        if _LENGTH.unpack_from(self._stage, self._start)[0] != len(view):
            raise self._mismatch(len(view))
        begin = self._start + _LENGTH.size
        got = min(self._end - begin, len(view))
        view[:got] = self._stage[begin : begin + got]
        self._start = begin + got
        while got < len(view):
            got += self._read(view[got:], deadline, moved=True)

    def _read(self, into: memoryview, deadline: Deadline, moved: bool) -> int:
        while True:
            if not -TOLERANCE_S < deadline.at - monotonic() - self._receive_s < TOLERANCE_S:
                self._receive_s = self._arm(socket.SO_RCVTIMEO, deadline, moved)
            try:
                count = self._sock.recv_into(into)
            except BlockingIOError:
                self._receive_s = UNSET  # the kernel's timeout; whether it was the deadline is seen above
                continue
            except OSError as error:
                raise self._life.broke(translate(error, rank=self._rank)) from error
            if not count:
                raise self._life.broke(PeerLost(self._rank, "it closed the connection"))
            return count

    def _arm(self, option: int, deadline: Deadline, moved: bool) -> float:
        """Let the kernel end the next call at the deadline; `moved` says whether bytes of this call have crossed.

        Returns the timeout that was set. Raises TransferTimeout when there is no time left.
        """
        left = deadline.remaining()
        if left:
            # A microsecond more, because the kernel takes 0 for no timeout at all.
            timeval = _TIMEVAL.pack(*divmod(int(left * 1e6) + 1, 1_000_000))
            self._sock.setsockopt(socket.SOL_SOCKET, option, timeval)
            return left
        late = TransferTimeout(f"rank {self._rank} let the deadline pass" + (" inside a part" if moved else ""))
        if not moved:
            raise late
        self.shut()
        raise self._life.broke(late)

    def _mismatch(self, awaited: int) -> Exception:
        (length,) = _LENGTH.unpack_from(self._stage, self._start)
        self.shut()
        return self._life.broke(LengthMismatch(f"rank {self._rank} sent {length} bytes, {awaited} were awaited"))


def _piece(queue: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """The first PIECE bytes of the queue, in at most _IOV_MAX buffers."""
    piece: list[bytes | memoryview] = []
    room = PIECE
    for part in queue[:_IOV_MAX]:
        piece.append(part if len(part) <= room else memoryview(part)[:room])
        room -= len(piece[-1])
        if not room:
            break
    return piece


def _rest(queue: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of the queue after so many bytes."""
    for index, part in enumerate(queue):
        if sent < len(part):
            return [memoryview(part)[sent:], *queue[index + 1 :]]
        sent -= len(part)
    return []
