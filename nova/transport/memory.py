"""The reference transport: ranks are threads of one process; parts and arrays are copied through bounded queues.

It says what the contract means, where the plugins say how to make it fast. It cannot cross processes, so it is no
plugin: tests make a `Hub`, and every rank's transport shares it.
"""

from __future__ import annotations

import hmac
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nova import __version__
from nova.clock import Deadline
from nova.errors import FormingFailed, LengthMismatch, PeerLost, TransferTimeout, TransportUnavailable
from nova.transport.api import (
    API_VERSION,
    Attachment,
    Buffer,
    ByteGroup,
    Caps,
    Endpoint,
    Group,
    Rendezvous,
    Seat,
    Transport,
    TransportInfo,
    WritableBuffer,
)
from nova.transport.buffers import flat, writable
from nova.transport.life import Life
from nova.transport.ticket import proof
from nova.wire import phases

CAPS = ~(Caps.INTER_HOST | Caps.COLLECTIVES)

PARTS, ARRAYS = KINDS = ("parts", "arrays")
"""What crosses has lanes of its own: parts and arrays have no order between them."""


@dataclass(frozen=True)
class MemoryConfig:
    """Options of the memory transport."""

    capacity: int = field(default=4 << 20, metadata={"help": "bytes; a queue that holds more makes its sender wait"})


class Lane:
    """A queue from one rank to another. `changed` is the hub's only condition."""

    def __init__(self) -> None:
        self.parts: deque[bytes] = deque()
        self.bytes = 0
        self.ended = False


class Hub:
    """Where the ranks of this process meet."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.joined: dict[tuple[str, int], dict[int, bool]] = {}  # by rank, false when it gave up
        self.lanes: dict[tuple[str, int, str, int, int], Lane] = {}

    def lane(self, seat: Seat, kind: str, src: int, dst: int) -> Lane:
        return self.lanes.setdefault((seat.group, seat.generation, kind, src, dst), Lane())


class MemoryTransport(Transport):
    """Promises everything but INTER_HOST and COLLECTIVES."""

    name = "memory"
    api = API_VERSION
    version = __version__
    Config = MemoryConfig

    def __init__(self, config: MemoryConfig, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        """Available wherever there is a host at all; the domain is this one hub. The estimates are of queues."""
        if not hosts:
            raise TransportUnavailable("this node has no address: set transport.hosts")
        here = Attachment(f"memory/{id(self._hub):x}", hosts[0], latency_s=10e-6, bandwidth_bytes_s=5e9)
        return TransportInfo(self.name, self.version, self.api, CAPS, (here,))

    def open(self, seat: Seat) -> MemoryEndpoint:
        return MemoryEndpoint(self._hub, seat, self.config.capacity)


class MemoryEndpoint(Endpoint):
    """Nothing is held yet, so there is nothing to close."""

    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        self._hub = hub
        self._seat = seat
        self._capacity = capacity

    def card(self) -> bytes:
        return proof(self._seat, b"card", bytes([self._seat.rank]))

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Group:
        seat, hub = self._seat, self._hub
        for rank, card in enumerate(cards):
            if not hmac.compare_digest(card, proof(seat, b"card", bytes([rank]))):
                raise self._failed(f"rank {rank} does not hold this group's ticket")
        with hub.changed:
            came = hub.joined.setdefault((seat.group, seat.generation), {})
            came[seat.rank] = True
            hub.changed.notify_all()
            if not hub.changed.wait_for(lambda: list(came.values()) == [True] * seat.size, deadline.remaining()):
                came[seat.rank] = False
                missing = [rank for rank in range(seat.size) if rank not in came]
                raise self._failed(f"rank {', '.join(map(str, missing))} did not come")
        return MemoryGroup(hub, seat, self._capacity)

    def close(self) -> None:
        pass  # nothing is held before a group stands

    def _failed(self, cause: str) -> FormingFailed:
        return FormingFailed(phases.JOIN, MemoryTransport.name, self._seat.rank, cause)


class MemoryGroup(ByteGroup):
    """One rank's lanes, of parts and of arrays. Every wait is on the hub's condition, under the caller's deadline."""

    caps = CAPS

    def __init__(self, hub: Hub, seat: Seat, capacity: int) -> None:
        self.rank = seat.rank
        self.size = seat.size
        self._capacity = capacity
        self._changed = hub.changed
        peers = [rank for rank in range(seat.size) if rank != seat.rank]
        with hub.changed:
            self._out = {(kind, rank): hub.lane(seat, kind, seat.rank, rank) for kind in KINDS for rank in peers}
            self._in = {(kind, rank): hub.lane(seat, kind, rank, seat.rank) for kind in KINDS for rank in peers}
        self._ended = False
        self._life = Life(self._end, lambda: None)

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        self._send(PARTS, [flat(part) for part in parts], dst, deadline)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        self._receive(PARTS, writable(out), src, deadline)

    def send_array(self, array: Any, dst: int, deadline: Deadline) -> None:
        self._send(ARRAYS, [flat(memoryview(array))], dst, deadline)

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        import mlx.core as mx  # only here: a group of bytes needs no MLX

        out = mx.zeros(shape, dtype)
        mx.eval(out)
        self._receive(ARRAYS, writable(memoryview(out)), src, deadline)  # type: ignore[arg-type]  # has a buffer
        return out

    def _send(self, kind: str, views: Sequence[memoryview], dst: int, deadline: Deadline) -> None:
        with self._life:
            for index, part in enumerate(views):
                if not self._put(self._out[kind, dst], part, dst, deadline):
                    late = TransferTimeout(f"rank {dst} did not take {len(part)} bytes in time")
                    raise self._life.broke(late) if index else late

    def _receive(self, kind: str, view: memoryview, src: int, deadline: Deadline) -> None:
        with self._life:
            part = self._take(self._in[kind, src], src, deadline)
            if len(part) != len(view):
                raise self._life.broke(LengthMismatch(f"rank {src} sent {len(part)} bytes, {len(view)} were awaited"))
            view[:] = part

    def _put(self, lane: Lane, part: memoryview, dst: int, deadline: Deadline) -> bool:
        def free() -> bool:
            return lane.bytes + len(part) <= self._capacity or not lane.parts or self._ended or lane.ended

        with self._changed:
            in_time = self._changed.wait_for(free, deadline.remaining())
            ended = self._ended or lane.ended
            if in_time and not ended:
                lane.parts.append(bytes(part))
                lane.bytes += len(part)
                self._changed.notify_all()
        if ended:
            raise self._life.broke(PeerLost(dst, "it ended its side"))
        return in_time

    def _take(self, lane: Lane, src: int, deadline: Deadline) -> bytes:
        with self._changed:
            in_time = self._changed.wait_for(lambda: lane.parts or self._ended or lane.ended, deadline.remaining())
            if lane.parts and not self._ended:
                part = lane.parts.popleft()
                lane.bytes -= len(part)
                self._changed.notify_all()
                return part
        if in_time:
            raise self._life.broke(PeerLost(src, "it ended its side"))
        raise TransferTimeout(f"nothing came from rank {src} in time")

    def close(self, deadline: Deadline) -> None:
        """What was sent is in the peers' queues already."""
        self._life.close()

    def abort(self) -> None:
        self._life.close()

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            for lane in (*self._out.values(), *self._in.values()):
                lane.ended = True
            self._changed.notify_all()
