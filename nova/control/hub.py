"""The coordinator's end of the control plane: the ROUTER and its ZAP handler, in one asyncio task."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

import structlog
import zmq

from nova.clock import Clock, monotonic
from nova.config.schema import Control
from nova.control import sockets
from nova.control.keys import KeyPair
from nova.control.liveness import pause
from nova.control.session import Dropped, Event, Joined, Left, Received, Reply, Session
from nova.control.sessions import Sessions
from nova.control.zap import TrustList, Zap
from nova.errors import NodeLost, NovaError
from nova.wire.messages import Message

_BATCH = 64
_LINGER_MS = 500

_log = structlog.get_logger(__name__)


class HubHandler(Protocol):
    """Called in the hub's loop, in the order of events; must not block. A NovaError raised here is logged and
    counted, and ends nothing; any other exception is a bug and ends `Hub.run` with it."""

    def joined(self, session: Session) -> None: ...

    def left(self, session: Session, why: str) -> None: ...

    def received(self, session: Session, message: Message) -> None: ...


class Hub:
    """`await start()`, then `await run()` until `close()` or cancelled. To be used from one event loop.

    `counters` is live; besides those of `Sessions` it has sent, unsent, handler_errors and refused_keys.
    """

    def __init__(
        self,
        name: str,
        bind_address: str,
        keys: KeyPair,
        trust: TrustList,
        control: Control,
        handler: HubHandler,
        clock: Clock = monotonic,
    ) -> None:
        self._address = bind_address
        self._keys = keys
        self._trust = trust
        self._handler = handler
        self._clock = clock
        self._pause = pause(control.heartbeat_s, control.dead_after_s)
        self._sessions = Sessions(name, control)
        self._events: list[Event] = []
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self._released = False
        self._reason = "the coordinator stops"
        self.port = 0

    @property
    def counters(self) -> dict[str, int]:
        return self._sessions.counters

    @property
    def sessions(self) -> list[Session]:
        """The sessions that stand, oldest first."""
        return self._sessions.all()

    async def start(self) -> None:
        """Binds; `port` is then the port in use. Raises ControlError if the address cannot be had."""
        self._context: sockets.Context = zmq.Context()
        self._zap = Zap(self._context, self._trust)
        self._zap.start()
        self._router = sockets.server(self._context, self._keys)
        try:
            self.port = await sockets.bind(self._router, self._address)
        except NovaError:
            await self._release(linger_ms=0)
            raise
        self._ready = sockets.Readiness(self._router, self._zap.zap_socket)
        _log.info("listening", address=self._address, port=self.port)

    async def run(self) -> None:
        """Serves until `close`. However it ends, everybody has been said goodbye and the port is free again."""
        if self._stop.is_set():
            # Closed before it began: `close` has let go of the sockets, or is about to.
            await self._ended.wait()
            return
        self._running = True
        try:
            tick_at = self._clock()
            while not self._stop.is_set():
                await self._admit()
                busy = self._read()
                if (now := self._clock()) >= tick_at:
                    self._events += self._sessions.tick(now)
                    tick_at = now + self._pause
                self._settle()
                # A flood from one peer must not hold up the loop's other tasks.
                await (asyncio.sleep(0) if busy else self._ready.wait(max(0.0, tick_at - self._clock())))
        finally:
            self._running = False
            try:
                self._events += self._sessions.close(self._reason)
                self._settle()
            finally:
                self._ready.close()
                await self._release(_LINGER_MS)

    def send(self, session_id: int, message: Message) -> None:
        """Queues a message; never waits.

        Raises NodeLost naming the node if its session is over or it cannot be reached, ProtocolError if the message
        is too large. The handler hears `left` for an unreachable node afterwards, from the loop.
        """
        reply = self._sessions.reply(session_id, message)
        try:
            self._transmit(reply)
        except NodeLost as error:
            self._events += self._sessions.gone(session_id, str(error))
            raise
        finally:
            self._ready.nudge()

    async def close(self, reason: str = "the coordinator stops") -> None:
        """Says goodbye to all, ends `run` and waits for it. Idempotent."""
        self._reason = reason
        self._stop.set()
        if self.port == 0:
            self._ended.set()
        elif self._running or self._released:
            self._ready.nudge()
        else:
            self._ready.close()
            await self._release(linger_ms=0)
        await self._ended.wait()

    async def _release(self, linger_ms: int) -> None:
        self._released = True
        self._router.close(linger_ms)
        self._zap.stop()
        try:
            await asyncio.to_thread(self._context.term)  # waits for what lingers
        finally:
            self._ended.set()

    async def _admit(self) -> None:
        while (request := sockets.receive(self._zap.zap_socket)) is not None:
            await self._zap.handle_zap_message([frame.bytes for frame in request])
        self.counters["refused_keys"] = self._zap.refusals

    def _read(self) -> bool:
        """Reads a batch; True if there may be more."""
        for _ in range(_BATCH):
            frames = sockets.receive(self._router)
            if frames is None:
                return False
            routing_id, *rest = (frame.bytes for frame in frames)
            self._events += self._sessions.receive(routing_id, _user(frames[-1]), rest, self._clock())
            self._settle()
        return True

    def _settle(self) -> None:
        """Carries out all events, and those that arise from them."""
        while self._events:
            event = self._events.pop(0)
            if isinstance(event, Reply):
                try:
                    self._transmit(event)
                except NodeLost as error:
                    if event.session is not None:
                        self._events += self._sessions.gone(event.session.id, str(error))
            elif isinstance(event, Dropped):
                _log.warning("frame dropped", cause=event.cause, peer=event.user, why=event.detail, count=event.count)
            else:
                self._tell(event)

    def _tell(self, event: Joined | Left | Received) -> None:
        session = event.session
        try:
            if isinstance(event, Joined):
                _log.info("session begins", peer=session.name, role=session.role, session=session.id)
                self._handler.joined(session)
            elif isinstance(event, Left):
                _log.info("session ends", peer=session.name, role=session.role, session=session.id, why=event.why)
                self._handler.left(session, event.why)
            else:
                self._handler.received(session, event.message)
        except NovaError as error:
            self.counters["handler_errors"] += 1
            _log.error("event not handled", event_kind=type(event).__name__, peer=session.name, why=str(error))

    def _transmit(self, reply: Reply) -> None:
        peer = f"{reply.session.role} {reply.session.name!r}" if reply.session else "a peer without session"
        try:
            sockets.send(self._router, [reply.routing_id, *reply.encode()], peer)
        except NodeLost:
            self.counters["unsent"] += 1
            raise
        self.counters["sent"] += 1


def _user(frame: zmq.Frame) -> str:
    """The name that ZAP gave to the connection; empty if there is none, which no session accepts."""
    with suppress(zmq.ZMQError):
        return str(frame.get("User-Id"))
    return ""
