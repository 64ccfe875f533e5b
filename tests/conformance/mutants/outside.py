"""Defects that show only between processes, made from `tcp`; the entry points stand in `installed/`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

from nova_transport_tcp import TcpTransport

from nova.clock import Deadline
from nova.errors import FormingFailed, PeerLost, TransferTimeout
from nova.transport.api import (
    Buffer,
    ByteGroup,
    Caps,
    Endpoint,
    Group,
    Rendezvous,
    Seat,
    TransportInfo,
    WritableBuffer,
)

UNENDING = Caps.DEADLINE | Caps.ABORT | Caps.REFORM


class _Endpoint(Endpoint):
    """Passes everything on."""

    def __init__(self, inner: Endpoint) -> None:
        self.inner = inner

    def card(self) -> bytes:
        return self.inner.card()

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        return self.inner.join(cards, rendezvous, deadline)

    def close(self) -> None:
        self.inner.close()


class _Group(ByteGroup):
    """Passes everything on."""

    def __init__(self, inner: Group) -> None:
        assert isinstance(inner, ByteGroup)
        self.inner = inner
        self.rank, self.size, self.caps = inner.rank, inner.size, inner.caps

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        self.inner.send(parts, dst, deadline)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        self.inner.recv_into(out, src, deadline)

    def close(self, deadline: Deadline) -> None:
        self.inner.close(deadline)

    def abort(self) -> None:
        self.inner.abort()


class _Stuck(_Endpoint):
    """A join that failed does not return, and no thread of its process runs any more, as in MLX's ring."""

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        try:
            return super().join(cards, rendezvous, deadline)
        except FormingFailed:
            libc = ctypes.PyDLL(None)  # holds the interpreter's lock
            libc.sleep(1000)
            raise


class StuckTransport(TcpTransport):
    name = "kit-stuck"

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        info = super().probe(hosts)
        return replace(info, caps=info.caps & ~UNENDING)

    def open(self, seat: Seat) -> Endpoint:
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)  # it must not outlive the rank
        return _Stuck(super().open(seat))


class _Deaf(_Group):
    """The end of a peer goes unseen."""

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        try:
            super().send(parts, dst, deadline)
        except PeerLost:
            raise TransferTimeout("nothing moved") from None

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        try:
            super().recv_into(out, src, deadline)
        except PeerLost:
            raise TransferTimeout("nothing came") from None


class _DeafEndpoint(_Endpoint):
    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        return _Deaf(super().join(cards, rendezvous, deadline))


class DeafTransport(TcpTransport):
    name = "kit-deaf"

    def open(self, seat: Seat) -> Endpoint:
        return _DeafEndpoint(super().open(seat))


class CrashingTransport(TcpTransport):
    name = "kit-crash"

    def open(self, seat: Seat) -> Endpoint:
        if seat.rank == 1:
            print("the driver is upset", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().open(seat)


class ChattyTransport(TcpTransport):
    name = "kit-chatty"

    def open(self, seat: Seat) -> Endpoint:
        print('{"result": null}' * 1000, flush=True)
        return super().open(seat)
