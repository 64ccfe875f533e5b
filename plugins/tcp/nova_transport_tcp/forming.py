"""One join: dial the lower ranks, hear the higher ones, until each has proved itself.

Everything runs in one selector loop, so that no connection, silent or talkative, can hold up another. A dialled
address comes from a card, so a wrong proof there ends the join; at the listener it only ends that connection.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from nova.clock import Deadline, monotonic
from nova.errors import FormingFailed
from nova.transport.api import Seat
from nova.transport.dialling import bind_to_interface, target, unreachable, way
from nova.transport.network import family
from nova.transport.routes import Course
from nova.transport.ticket import Admitted, Stranger, admit, greet
from nova.wire import phases
from nova_transport_tcp.candidate import Candidate
from nova_transport_tcp.config import TcpConfig
from nova_transport_tcp.errors import NAME

log = structlog.get_logger(__name__)

REDIAL_S = 0.02
"""Pause before a dropped or refused connection is dialled again."""


@dataclass(frozen=True)
class Peer:
    """A lower rank: the course of its routes, and the port at each of its addresses."""

    course: Course
    ports: Mapping[str, int]


class Forming:
    """The state of one join; `run` once."""

    def __init__(
        self,
        seat: Seat,
        config: TcpConfig,
        listeners: Sequence[socket.socket],
        lower: Mapping[int, Peer],
        deadline: Deadline,
    ) -> None:
        self._seat = seat
        self._config = config
        self._listeners = listeners
        self._lower = lower
        self._deadline = deadline
        self._awaited = frozenset(range(seat.rank + 1, seat.size))
        self._selector = selectors.DefaultSelector()
        self._candidates: dict[Candidate, None] = {}  # oldest first
        self._redials: dict[int, Deadline] = {rank: Deadline.after(0) for rank in lower}
        self._peers: dict[int, socket.socket] = {}
        self._strangers = 0
        self._last_stranger = ""

    def run(self) -> dict[int, socket.socket]:
        """The peers' sockets by rank, non-blocking. Raises FormingFailed or OSError, with nothing left open."""
        try:
            with contextlib.ExitStack() as undo:
                undo.callback(self._close_peers)
                for listener in self._listeners:
                    self._selector.register(listener, selectors.EVENT_READ)
                while len(self._peers) < self._seat.size - 1:
                    if self._deadline.expired:
                        raise self._failed(self._missing())
                    self._turn()
                for sock in self._peers.values():
                    self._tune(sock)
                undo.pop_all()  # formed: the sockets are the caller's
        finally:
            for candidate in self._candidates:
                candidate.sock.close()
            self._selector.close()
            if self._strangers:
                log.warning("strangers dropped", transport=NAME, count=self._strangers, last=self._last_stranger)
        log.info(
            "connected", transport=NAME, **{f"rank_{rank}": way(self._peers[rank]) for rank in sorted(self._peers)}
        )
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
                assert isinstance(key.fileobj, socket.socket)
                self._accept(key.fileobj)
            elif key.data in self._candidates:
                self._advance(key.data)
        for candidate in [candidate for candidate in self._candidates if candidate.until.expired]:
            self._drop(candidate, candidate.silence())

    def _dial(self, rank: int) -> None:
        peer = self._lower[rank]
        route = peer.course.route
        sock = socket.socket(family(route.target), socket.SOCK_STREAM)
        sock.setblocking(False)
        candidate = Candidate(sock, greet(self._seat, rank), Deadline.after(peer.course.patience()), rank, route)
        self._candidates[candidate] = None
        try:
            bind_to_interface(sock, route)
            sock.connect(target(route, peer.ports[route.target]))
        except BlockingIOError:  # under way
            pass
        except OSError as error:
            self._drop(candidate, _reason(error, candidate))
            return
        self._selector.register(sock, selectors.EVENT_WRITE, candidate)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
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
        self._advance(candidate)
        if sum(each.rank is None for each in self._candidates) > self._config.candidates:
            self._evict()

    def _evict(self) -> bool:
        oldest = next((candidate for candidate in self._candidates if candidate.rank is None), None)
        if oldest is not None:
            self._drop(oldest, "too many connections at once")
        return oldest is not None

    def _advance(self, candidate: Candidate) -> None:
        """Take a connection's handshake as far as it goes."""
        try:
            if candidate.connected:
                who = candidate.read()
            else:
                who = candidate.begin()
                self._selector.modify(candidate.sock, selectors.EVENT_READ, candidate)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(candidate, _reason(error, candidate))
        except Stranger as reason:
            if candidate.rank is not None:
                raise self._failed(str(reason)) from reason
            self._drop(candidate, str(reason))
        else:
            if who is not None:
                self._admit(candidate, who)
            elif candidate.heard and candidate.rank is not None:
                # It may count us as connected from here on, so another route would only confuse it.
                candidate.until = self._deadline

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
        if candidate.rank is not None and candidate.route is not None:
            self._lower[candidate.rank].course.failed(candidate.route, reason)
            self._redials[candidate.rank] = Deadline.after(REDIAL_S)
            return
        self._strangers += 1
        self._last_stranger = reason
        log.debug("stranger dropped", transport=NAME, reason=reason)

    def _tune(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        idle = getattr(socket, "TCP_KEEPIDLE", None) or socket.TCP_KEEPALIVE  # type: ignore[attr-defined,unused-ignore]
        sock.setsockopt(socket.IPPROTO_TCP, idle, self._config.keepalive_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, self._config.keepalive_s // 3))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def _missing(self) -> str:
        absent = [rank for rank in range(self._seat.size) if rank != self._seat.rank and rank not in self._peers]
        for candidate in self._candidates:  # what is still waited for explains as much as what has failed
            if candidate.rank is not None and candidate.route is not None:
                self._lower[candidate.rank].course.pending(candidate.route, candidate.silence())
        whys = {rank: peer.course.why() for rank, peer in self._lower.items()}
        says = [f"rank {rank} ({whys[rank]})" if whys.get(rank) else f"rank {rank}" for rank in absent]
        heard = f"; {self._strangers} strangers dropped, the last: {self._last_stranger}" if self._strangers else ""
        return f"{', '.join(says)} did not connect in time{heard}"

    def _failed(self, cause: str) -> FormingFailed:
        return FormingFailed(phases.JOIN, NAME, self._seat.rank, cause)


def _reason(error: OSError, candidate: Candidate) -> str:
    if error.errno is None:
        return str(error)
    return unreachable(error.errno, monotonic() - candidate.since)
