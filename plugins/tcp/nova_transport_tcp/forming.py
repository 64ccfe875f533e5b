"""One join: dial the lower ranks, hear the higher ones, until each has proved itself.

Everything runs in one selector loop, so that no connection, silent or talkative, can hold up another. A dialled
address comes from a card, so a wrong proof there ends the join; at the listener it only ends that connection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
from dataclasses import dataclass, field

import structlog

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Seat
from nova.transport.network import family
from nova.transport.ticket import Admitted, Handshake, Stranger, admit, greet
from nova.wire import phases
from nova_transport_tcp.config import TcpConfig
from nova_transport_tcp.errors import NAME

log = structlog.get_logger(__name__)

REDIAL_S = 0.02
"""Pause before a dropped or refused connection is dialled again."""


@dataclass(eq=False)
class Candidate:
    """A connection that has not proved itself. `rank` is set when we dialled it."""

    sock: socket.socket
    steps: Handshake
    until: Deadline
    rank: int | None = None
    need: int = 0
    got: bytearray = field(default_factory=bytearray)


class Forming:
    """The state of one join; `run` once."""

    def __init__(
        self,
        seat: Seat,
        config: TcpConfig,
        listener: socket.socket | None,
        targets: dict[int, tuple[str, int]],
        deadline: Deadline,
    ) -> None:
        self._seat = seat
        self._config = config
        self._listener = listener
        self._targets = targets
        self._deadline = deadline
        self._awaited = frozenset(range(seat.rank + 1, seat.size))
        self._selector = selectors.DefaultSelector()
        self._candidates: dict[Candidate, None] = {}  # oldest first
        self._redials: dict[int, Deadline] = {rank: Deadline.after(0) for rank in targets}
        self._peers: dict[int, socket.socket] = {}
        self._strangers = 0
        self._notes: dict[int | None, str] = {}  # the last reason, by rank dialled; None is the listener's

    def run(self) -> dict[int, socket.socket]:
        """The peers' sockets by rank, non-blocking. Raises FormingFailed or OSError, with nothing left open."""
        try:
            with contextlib.ExitStack() as undo:
                undo.callback(self._close_peers)
                if self._listener is not None:
                    self._selector.register(self._listener, selectors.EVENT_READ)
                while len(self._peers) < self._seat.size - 1:
                    if self._deadline.expired:
                        raise self._failed(self._missing())
                    self._turn()
                for rank, sock in self._peers.items():
                    self._tune(rank, sock)
                undo.pop_all()  # formed: the sockets are the caller's
        finally:
            for candidate in self._candidates:
                candidate.sock.close()
            self._selector.close()
            if self._strangers:
                log.warning("strangers dropped", transport=NAME, count=self._strangers, last=self._notes.get(None))
        return self._peers

    def _close_peers(self) -> None:
        for sock in self._peers.values():
            sock.close()

    def _turn(self) -> None:
        for rank in [rank for rank, when in self._redials.items() if when.expired]:
            del self._redials[rank]
            self._dial(rank)
        waits = (self._deadline, *self._redials.values(), *(candidate.until for candidate in self._candidates))
        for key, _ in self._selector.select(min(wait.remaining() for wait in waits)):
            if key.data is None:
                self._accept()
            elif key.data in self._candidates:
                self._advance(key.data)
        for candidate in [candidate for candidate in self._candidates if candidate.until.expired]:
            self._drop(candidate, "silent for too long")

    def _dial(self, rank: int) -> None:
        host, port = self._targets[rank]
        sock = socket.socket(family(host), socket.SOCK_STREAM)
        sock.setblocking(False)
        candidate = Candidate(sock, greet(self._seat, rank), self._deadline, rank)
        self._candidates[candidate] = None
        code = sock.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            self._drop(candidate, os.strerror(code))
            return
        self._selector.register(sock, selectors.EVENT_WRITE, candidate)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # it left before we looked
            return
        except OSError:  # out of descriptors: an unproved connection makes room
            if not self._evict():
                raise
            return
        sock.setblocking(False)
        candidate = Candidate(sock, admit(self._seat, self._awaited), Deadline.after(self._config.handshake_s))
        self._candidates[candidate] = None
        self._selector.register(sock, selectors.EVENT_READ, candidate)
        self._step(candidate, None)
        if sum(each.rank is None for each in self._candidates) > self._config.candidates:
            self._evict()

    def _evict(self) -> bool:
        oldest = next((candidate for candidate in self._candidates if candidate.rank is None), None)
        if oldest is not None:
            self._drop(oldest, "too many connections at once")
        return oldest is not None

    def _advance(self, candidate: Candidate) -> None:
        try:
            if not candidate.need:  # a dialled connection stands, or failed to
                if code := candidate.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code))
                self._selector.modify(candidate.sock, selectors.EVENT_READ, candidate)
                self._step(candidate, None)
                return
            data = candidate.sock.recv(candidate.need - len(candidate.got))
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(candidate, error.strerror or str(error))
            return
        candidate.got += data
        if not data:
            self._drop(candidate, "closed before it proved itself")
        elif len(candidate.got) == candidate.need:
            data, candidate.got = bytes(candidate.got), bytearray()
            self._step(candidate, data)

    def _step(self, candidate: Candidate, data: bytes | None) -> None:
        """Take the handshake to its next wait, or to its end."""
        try:
            while True:
                out, candidate.need = candidate.steps.send(data)  # type: ignore[arg-type]  # None starts a generator
                if out and candidate.sock.send(out) != len(out):
                    raise Stranger("it does not read")
                if candidate.need:
                    return
                data = b""
        except StopIteration as done:
            self._admit(candidate, done.value)
        except OSError as error:
            self._drop(candidate, error.strerror or str(error))
        except Stranger as reason:
            if candidate.rank is not None:
                raise self._failed(str(reason)) from reason
            self._drop(candidate, str(reason))

    def _admit(self, candidate: Candidate, who: Admitted) -> None:
        self._selector.unregister(candidate.sock)
        del self._candidates[candidate]
        if who.rank in self._peers:  # it dialled again, so the earlier connection is dead on its side
            self._peers[who.rank].close()
        self._peers[who.rank] = candidate.sock

    def _drop(self, candidate: Candidate, reason: str) -> None:
        del self._candidates[candidate]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(candidate.sock)
        candidate.sock.close()
        self._notes[candidate.rank] = reason
        if candidate.rank is not None:
            self._redials[candidate.rank] = Deadline.after(REDIAL_S)
            return
        self._strangers += 1
        log.debug("stranger dropped", transport=NAME, reason=reason)

    def _tune(self, rank: int, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        idle = getattr(socket, "TCP_KEEPIDLE", None) or socket.TCP_KEEPALIVE  # type: ignore[attr-defined,unused-ignore]
        sock.setsockopt(socket.IPPROTO_TCP, idle, self._config.keepalive_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, self._config.keepalive_s // 3))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def _missing(self) -> str:
        absent = [rank for rank in range(self._seat.size) if rank != self._seat.rank and rank not in self._peers]
        says = [f"rank {rank} ({self._notes[rank]})" if rank in self._notes else f"rank {rank}" for rank in absent]
        heard = f"; {self._strangers} strangers dropped, the last: {self._notes[None]}" if self._strangers else ""
        return f"{', '.join(says)} did not connect in time{heard}"

    def _failed(self, cause: str) -> FormingFailed:
        return FormingFailed(phases.JOIN, NAME, self._seat.rank, cause)
