"""Neighbours dial each other before MLX does, since MLX's own init names no reason and knows no deadline.

Every address of a neighbour is dialled at once, and both ends prove that they hold the group's ticket. The dialling
sockets are not bound to an interface: MLX's are not either, and what only a bound socket can reach, MLX cannot.
Everything runs in one event loop of its own, so that no connection, silent or talkative, can hold up another.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from nova.clock import Deadline, monotonic
from nova.errors import FormingFailed
from nova.transport.api import Seat
from nova.transport.ticket import Admitted, Handshake, Stranger, admit, greet
from nova.wire import phases
from nova_transport_ring.config import RingConfig
from nova_transport_ring.errors import CLOSED, NAME, NO_NETWORK, SILENT, unanswered, undialled
from nova_transport_ring.links import Listener, Reached

log = structlog.get_logger(__name__)

BACKLOG = 1024
"""Connections that the kernel holds for us; a flood of strangers must not crowd out the SYN of a neighbour."""

REDIAL_S = 0.02
"""Pause before an address that dropped us is dialled again."""

T = TypeVar("T")


class Meeting:
    """One rank's part; `run` once. `targets` are the listeners of each neighbour."""

    def __init__(self, seat: Seat, config: RingConfig, targets: Mapping[int, Sequence[Listener]]) -> None:
        self._seat = seat
        self._config = config
        self._targets = targets
        self._candidates: dict[asyncio.Task[None] | None, None] = {}  # oldest first
        self._strangers = 0
        self._last_stranger = ""

    async def run(self, listeners: Sequence[socket.socket], exchange: Callable[[Reached], T], deadline: Deadline) -> T:
        """Dial, and then answer the neighbours until `exchange`, in a thread, has told all ranks what was reached.

        Raises FormingFailed for a neighbour without any address that proved itself. The listeners are closed then.
        """
        servers = [await asyncio.start_server(self._answer, sock=each, backlog=BACKLOG) for each in listeners]
        try:
            return await asyncio.to_thread(exchange, await self._dial_all(deadline))
        finally:
            for server in servers:
                server.close()
            if self._strangers:
                log.warning("strangers dropped", transport=NAME, count=self._strangers, last=self._last_stranger)

    async def _dial_all(self, deadline: Deadline) -> Reached:
        pairs = [(rank, listener) for rank, found in self._targets.items() for listener in found]
        limit_s = min(self._config.dial_s, deadline.remaining())
        reasons = await asyncio.gather(*(self._dial(rank, listener, limit_s) for rank, listener in pairs))
        failed = [(rank, f"{at}: {why}") for (rank, at), why in zip(pairs, reasons, strict=True) if why]
        reached: dict[int, list[str]] = {rank: [] for rank in self._targets}
        for (rank, listener), why in zip(pairs, reasons, strict=True):
            if not why:
                reached[rank].append(listener.host)
        lost = {rank: [why for other, why in failed if other == rank] for rank, found in reached.items() if not found}
        if lost:
            each = [f"rank {rank} cannot be reached: {'; '.join(why) or NO_NETWORK}" for rank, why in lost.items()]
            raise FormingFailed(phases.JOIN, NAME, self._seat.rank, "; ".join(each))
        for rank, why in failed:
            log.warning("an address of a neighbour leads nowhere", transport=NAME, rank=rank, reason=why)
        return reached

    async def _dial(self, rank: int, at: Listener, limit_s: float) -> str:
        """Empty when `rank` proved itself there, else why not."""
        why = unanswered(at.host, limit_s)
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    begun = monotonic()
                    try:
                        reader, writer = await asyncio.open_connection(at.host, at.port)
                    except OSError as error:
                        return undialled(error.errno or 0, monotonic() - begun)
                    why = SILENT
                    try:
                        await _drive(greet(self._seat, rank), reader, writer)
                        return ""
                    except Stranger as reason:
                        return str(reason)
                    except (OSError, EOFError):
                        why = CLOSED
                    finally:
                        writer.close()
                    await asyncio.sleep(REDIAL_S)
        except TimeoutError:
            return why

    async def _answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection to a listener of ours, from a neighbour or a stranger."""
        task = asyncio.current_task()
        self._candidates[task] = None
        if len(self._candidates) > self._config.candidates and (oldest := next(iter(self._candidates))):
            oldest.cancel()
        try:
            async with asyncio.timeout(self._config.handshake_s):
                await _drive(admit(self._seat, self._targets.keys()), reader, writer)
        except (Stranger, OSError, EOFError) as reason:
            self._strangers += 1
            self._last_stranger = str(reason) or "silent for too long"
        finally:
            del self._candidates[task]
            writer.close()


async def _drive(steps: Handshake, reader: StreamReader, writer: StreamWriter) -> Admitted:
    """Take a handshake to its end. Raises Stranger, OSError, EOFError."""
    data: bytes | None = None
    try:
        while True:
            out, need = steps.send(data)  # type: ignore[arg-type]  # None starts a generator
            writer.write(out)
            data = await reader.readexactly(need)
    except StopIteration as done:
        who: Admitted = done.value
        return who
