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

from nova.clock import Deadline
from nova.errors import LengthMismatch, PeerLost, TransferTimeout
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
    """One thread may send while another receives. Every error of a peer or link breaks the group's `life`."""

    def __init__(self, sock: socket.socket, rank: int, life: Life, staging_bytes: int) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._rank = rank
        self._life = life
        self._stage = memoryview(bytearray(staging_bytes))
        self._start = self._end = 0
        self._send_s = self._receive_s = UNSET  # the kernel's timeouts

    def send(self, parts: Sequence[bytes | memoryview], deadline: Deadline) -> None:
        queue: list[bytes | memoryview] = []
        left, moved = 0, False
        for part in parts:
            queue += (_LENGTH.pack(len(part)), part)
            left += _LENGTH.size + len(part)
        while left:
            if abs(deadline.remaining() - self._send_s) > TOLERANCE_S:
                self._send_s = self._arm(socket.SO_SNDTIMEO, deadline, moved)
            try:
                sent = self._sock.sendmsg(queue if left <= PIECE and len(queue) <= _IOV_MAX else _piece(queue))
            except BlockingIOError:
                self._send_s = UNSET  # the kernel's timeout; whether it was the deadline is seen above
                continue
            except OSError as error:
                raise self._life.broke(translate(error, rank=self._rank)) from error
            left -= sent
            moved = True
            if left:
                queue = _rest(queue, sent)

    def take(self, out: memoryview) -> bool:
        """Take a part of the right length that has arrived whole already; false when `receive` is to see to it."""
        begin = self._start + _LENGTH.size
        stop = begin + len(out)
        if stop > self._end or self._life.over:
            return False
        if _LENGTH.unpack_from(self._stage, self._start)[0] != len(out):
            return False
        out[:] = self._stage[begin:stop]
        self._start = stop
        return True

    def receive(self, out: memoryview, deadline: Deadline) -> None:
        if self._start == self._end:  # as a rule: what was staged has been taken
            self._start, self._end = 0, self._read(self._stage, deadline, moved=False)
        while self._end - self._start < _LENGTH.size:
            self._fill(deadline)
        if self.take(out):
            return
        (length,) = _LENGTH.unpack_from(self._stage, self._start)
        if length != len(out):
            self.shut()
            raise self._life.broke(LengthMismatch(f"rank {self._rank} sent {length} bytes, {len(out)} were awaited"))
        begin = self._start + _LENGTH.size
        got = self._end - begin
        out[:got] = self._stage[begin : self._end]
        self._start = self._end
        while got < length:
            got += self._read(out[got:], deadline, moved=True)

    def shut(self) -> None:
        """Wake blocked calls and tell the peer; what the kernel has taken still arrives."""
        with contextlib.suppress(OSError):  # the peer was faster
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    def _fill(self, deadline: Deadline) -> None:
        """Read more into the staging buffer, behind the piece of a length that is left and moves to its front."""
        left = self._end - self._start
        self._stage[:left] = self._stage[self._start : self._end]
        self._start, self._end = 0, left
        self._end += self._read(self._stage[left:], deadline, moved=True)

    def _read(self, into: memoryview, deadline: Deadline, moved: bool) -> int:
        while True:
            if abs(deadline.remaining() - self._receive_s) > TOLERANCE_S:
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
