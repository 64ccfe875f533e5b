"""The other end of the control plane: a worker's or client's DEALER, in one asyncio task.

Each session has a socket of its own (see `backoff` for why). `run` keeps a session for ever; what it cannot mend, it
explains: in the log, to the handler, and in `error`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog
import zmq

from nova.clock import Clock, monotonic
from nova.config.schema import Control
from nova.control import sockets
from nova.control.backoff import Backoff
from nova.control.dialogue import Dialogue, Event, Over, Received, Say, Welcomed
from nova.control.handshake import Monitor
from nova.control.keys import KeyPair
from nova.control.liveness import pause
from nova.errors import ControlError, NodeLost, NovaError, PeerRefused
from nova.wire.messages import Goodbye, Hello, Message, Welcome

_BATCH = 64
_LINGER_MS = 500

_log = structlog.get_logger(__name__)


class SpokeHandler(Protocol):
    """Called in the spoke's loop, in the order of events; must not block. A NovaError raised here is logged and
    counted, and ends nothing; any other exception is a bug and ends `Spoke.run` with it."""

    def welcomed(self, welcome: Welcome) -> None: ...

    def lost(self, why: str) -> None:
        """An attempt or a session ended: a session if `welcomed` came since the last `lost`."""

    def received(self, message: Message) -> None: ...


class Spoke:
    """`await run()` until `close()` or cancelled. To be used from one event loop.

    `hello` is asked anew for each session. `counters` has sessions, attempts, sent, received, gaps, malformed,
    oversized, replayed, forbidden, handler_errors. `error` says why there is no session; None while one stands.
    """

    def __init__(
        self,
        address: str,
        server_public_key: str,
        keypair: KeyPair,
        hello: Callable[[], Hello],
        control: Control,
        handler: SpokeHandler,
        clock: Clock = monotonic,
    ) -> None:
        self._address = address
        self._endpoint = sockets.endpoint(address)
        self._server_key = server_public_key
        self._keys = keypair
        self._hello = hello
        self._control = control
        self._handler = handler
        self._clock = clock
        self._backoff = Backoff(control.reconnect_s, control.reconnect_max_s)
        self._reason = "it stops"
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self._dialogue: Dialogue | None = None
        self.counters: Counter[str] = Counter()
        self.error: ControlError | None = NodeLost(f"coordinator at {address} was not dialled yet")

    @property
    def session(self) -> Dialogue | None:
        """The session that stands, or None; its `pulse` has the coordinator's round trip and clock offset."""
        return self._dialogue if self._dialogue is not None and self._dialogue.stands else None

    async def run(self) -> None:
        """Keeps a session until `close`; says goodbye however it ends.

        Raises PeerRefused if no retry can help, and ControlError if the address is none that can be dialled.
        """
        self._running = True
        self._context: sockets.Context = zmq.Context()
        try:
            while not self._stop.is_set():
                over = await self._attempt()
                if over is None:
                    return
                self._tell_lost(over.error)
                if over.final:
                    raise over.error
                await self._rest(self._backoff.next())
        finally:
            self._running = False
            try:
                await asyncio.to_thread(self._context.term)  # waits for a goodbye that lingers
            finally:
                self._ended.set()

    def send(self, message: Message) -> None:
        """Queues a message; never waits.

        Raises NodeLost saying why if no session stands or the coordinator does not read, ProtocolError if the
        message is too large.
        """
        if self.session is None:
            raise NodeLost(str(self.error)) from self.error
        sockets.send(self._dealer, self.session.encode(message), f"coordinator at {self._address}")
        self.counters["sent"] += 1
        self._ready.nudge()

    async def close(self, reason: str = "it stops") -> None:
        """Says goodbye, ends `run` and waits for it. Idempotent."""
        self._reason = reason
        self._stop.set()
        if self._running:
            if self._dialogue is not None:
                self._ready.nudge()
            await self._ended.wait()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    async def _attempt(self) -> Over | None:
        """One socket, one session at most. Why it is over, or None if we were asked to stop."""
        self.counters["attempts"] += 1
        self._dealer = sockets.client(self._context, self._keys, self._server_key)
        monitor = Monitor(self._dealer, self._address)
        self._ready = sockets.Readiness(self._dealer, monitor.socket)
        self._dialogue = Dialogue(self._hello(), self._address, self._control, self.counters, self._clock())
        over: Over | None = None
        try:
            try:
                self._dealer.connect(self._endpoint)
            except zmq.ZMQError as error:
                over = Over(ControlError(f"cannot dial the coordinator at {self._address!r}: {error.strerror}"), True)
                return over
            sockets.send(self._dealer, self._dialogue.hello(), f"coordinator at {self._address}")
            over = await self._converse(self._dialogue, monitor)
            return over
        finally:
            stood, self._dialogue = self.session, None
            self._ready.close()
            monitor.close()
            if stood is not None and over is None:
                self._farewell(stood)
            self._dealer.close()

    async def _converse(self, dialogue: Dialogue, monitor: Monitor) -> Over | None:
        tick_s = pause(self._control.heartbeat_s, self._control.dead_after_s)
        tick_at = self._clock()
        while not self._stop.is_set():
            # The monitor first: what had arrived before the connection ended is then still read.
            ended = monitor.read()
            busy, over = self._read(dialogue)
            if over is None and ended is not None and not busy:
                over = Over(ended)
            if over is None and (now := self._clock()) >= tick_at:
                over = self._settle(dialogue.tick(now))
                tick_at = now + tick_s
            if over is not None:
                return over
            if dialogue.welcome is not None:
                tick_s = pause(dialogue.welcome.heartbeat_s, dialogue.welcome.dead_after_s)
            if busy or ended is not None:
                await asyncio.sleep(0)  # a flood must not hold up the loop's other tasks
            else:
                await self._ready.wait(max(0.0, tick_at - self._clock()))
        return None

    def _read(self, dialogue: Dialogue) -> tuple[bool, Over | None]:
        """Reads a batch; whether there may be more, and whether it ended the session."""
        for _ in range(_BATCH):
            frames = sockets.receive(self._dealer)
            if frames is None:
                return False, None
            over = self._settle(dialogue.receive([frame.bytes for frame in frames], self._clock()))
            if over is not None:
                return False, over
        return True, None

    def _settle(self, events: list[Event]) -> Over | None:
        for event in events:
            if isinstance(event, Over):
                return event
            if isinstance(event, Say):
                try:
                    sockets.send(self._dealer, event.frames, f"coordinator at {self._address}")
                except NodeLost as error:
                    return Over(error)
            elif isinstance(event, Welcomed):
                self._backoff.reset()
                self.counters["sessions"] += 1
                self.error = None
                _log.info("session begins", coordinator=event.welcome.coordinator, address=self._address)
                self._call(partial(self._handler.welcomed, event.welcome))
            elif isinstance(event, Received):
                self._call(partial(self._handler.received, event.message))
        return None

    def _tell_lost(self, error: ControlError) -> None:
        if str(error) != str(self.error):
            # While it stays away the same reason would be logged at each attempt.
            _log.warning("no session", why=str(error), refused=isinstance(error, PeerRefused))
        self.error = error
        self._call(partial(self._handler.lost, str(error)))

    def _call(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except NovaError as error:
            self.counters["handler_errors"] += 1
            _log.error("event not handled", why=str(error))

    def _farewell(self, session: Dialogue) -> None:
        self.error = NodeLost(f"we ended the session with the coordinator at {self._address}: {self._reason}")
        try:
            sockets.send(self._dealer, session.encode(Goodbye(self._reason)), f"coordinator at {self._address}")
        except NodeLost as error:
            _log.info("goodbye not sent", why=str(error))
        self._dealer.setsockopt(zmq.LINGER, _LINGER_MS)
