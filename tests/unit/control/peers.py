"""Hubs, spokes and raw sockets on loopback, and handlers that can be waited on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import zmq

from nova.config.schema import Control
from nova.control import sockets
from nova.control.hub import Hub
from nova.control.keys import KeyPair, KeyStore
from nova.control.session import Session
from nova.control.spoke import Spoke
from nova.control.zap import TrustList
from nova.wire.messages import Hello, Message, Welcome

FAST = Control(heartbeat_s=0.05, dead_after_s=0.6, reconnect_s=0.05, reconnect_max_s=0.2)
LIMIT_S = 10.0


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a test; it fails if it hangs or leaves a task behind."""

    async def watched() -> None:
        async with asyncio.timeout(3 * LIMIT_S):
            await main
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())


class Happenings:
    """What a handler was told, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self._news = asyncio.Event()

    def note(self, kind: str, what: Any) -> None:
        self.log.append((kind, what))
        self._news.set()

    def of(self, kind: str) -> list[Any]:
        return [what for noted, what in self.log if noted == kind]

    async def until(self, kind: str, number: int = 1, seconds: float = LIMIT_S) -> Any:
        """The `number`th happening of a kind; the test fails if it does not come in time."""
        async with asyncio.timeout(seconds):
            while len(self.of(kind)) < number:
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[number - 1]


class HubEvents(Happenings):
    on_message: Callable[[Session, Message], None] | None = None

    def joined(self, session: Session) -> None:
        self.note("joined", session)

    def left(self, session: Session, why: str) -> None:
        self.note("left", (session, why))

    def received(self, session: Session, message: Message) -> None:
        self.note("received", (session, message))
        if self.on_message:
            self.on_message(session, message)


class SpokeEvents(Happenings):
    def welcomed(self, welcome: Welcome) -> None:
        self.note("welcomed", welcome)

    def lost(self, why: str) -> None:
        self.note("lost", why)

    def received(self, message: Message) -> None:
        self.note("received", message)


class World:
    """One coordinator's keys, and peers whose keys it may or may not trust."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = KeyStore(home)
        self.keys = self.store.new("coordinator")

    def admitted(self, name: str) -> KeyPair:
        pair = self.store.ensure(name)
        self.store.trust(name, pair.public)
        return pair

    @asynccontextmanager
    async def hub(self, port: int = 0, control: Control = FAST) -> AsyncIterator[tuple[Hub, HubEvents]]:
        events = HubEvents()
        hub = Hub("coordinator", f"127.0.0.1:{port}", self.keys, TrustList(self.store), control, events)
        await hub.start()
        running = asyncio.create_task(hub.run())
        try:
            yield hub, events
        finally:
            await hub.close()
            await running

    @asynccontextmanager
    async def spoke(
        self, port: int, pair: KeyPair, name: str, role: str = "worker", server_key: str = ""
    ) -> AsyncIterator[tuple[Spoke, SpokeEvents, asyncio.Task[None]]]:
        events = SpokeEvents()
        key = server_key or self.keys.public
        spoke = Spoke(f"127.0.0.1:{port}", key, pair, lambda: Hello(name, role, "test"), FAST, events)
        running = asyncio.create_task(spoke.run())
        try:
            yield spoke, events, running
        finally:
            await spoke.close()
            if not running.done() or running.exception() is None:
                await running

    def dealer(self, context: sockets.Context, port: int, pair: KeyPair) -> sockets.Socket:
        """A raw socket that may send anything."""
        dealer = sockets.client(context, pair, self.keys.public)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.connect(f"tcp://127.0.0.1:{port}")
        return dealer
