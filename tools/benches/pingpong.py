"""The contenders of the transport bench: each has two ends, and moves a header and a payload there and back.

The far end is a process of its own (`python -m benches.pingpong`), told by lines which contender to echo next, so
that both ends are in the same place of the same round.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod

import zmq

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import ByteGroup, Seat
from nova.transport.registry import load_transport
from nova.wire.rows import MAX_ROWS, ROW_BYTES, RowHead
from nova.wire.tensor import HEADER_BYTES, Flags, Header, Kind, layout

CALL_S = 30.0
CONTENDERS = ("socket", "pair", "pair-curve", "tcp", "zmq", "zmq-plain")


class End(ABC):
    """One end of a contender. Made in two steps, because each needs to know of the other."""

    @abstractmethod
    def card(self) -> str:
        """How the other end finds this one."""

    @abstractmethod
    def connect(self, cards: list[str]) -> None:
        """`cards` are the near end's and the far end's."""

    @abstractmethod
    def send(self, payload: memoryview, deadline: Deadline) -> None: ...

    @abstractmethod
    def receive(self, into: memoryview, deadline: Deadline) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class BareSocket(End):
    """A blocking socket with TCP_NODELAY; the payload alone."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._listener = socket.create_server(("127.0.0.1", 0))

    def card(self) -> str:
        return str(self._listener.getsockname()[1])

    def connect(self, cards: list[str]) -> None:
        if self._rank == 0:
            self._sock, _ = self._listener.accept()
        else:
            self._sock = socket.create_connection(("127.0.0.1", int(cards[0])))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, payload: memoryview, deadline: Deadline) -> None:
        self._sock.sendall(payload)

    def receive(self, into: memoryview, deadline: Deadline) -> None:
        got = 0
        while got < len(into):
            got += self._sock.recv_into(into[got:])

    def close(self) -> None:
        self._sock.close()
        self._listener.close()


class BarePair(End):
    """A ZeroMQ PAIR, copy=False; the payload alone, in one frame."""

    def __init__(self, rank: int, curve: bool) -> None:
        self._rank = rank
        self._curve = curve
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sock = self._context.socket(zmq.PAIR)
        self._keys = zmq.curve_keypair()

    def card(self) -> str:
        if self._rank:
            return ""
        if self._curve:
            self._sock.setsockopt(zmq.CURVE_SERVER, 1)
            self._sock.setsockopt(zmq.CURVE_SECRETKEY, self._keys[1])
        port = self._sock.bind_to_random_port("tcp://127.0.0.1")
        return f"{port} {self._keys[0].decode()}"

    def connect(self, cards: list[str]) -> None:
        if self._rank == 0:
            return
        port, key = cards[0].split()
        if self._curve:
            options = {zmq.CURVE_SERVERKEY: key.encode(), zmq.CURVE_PUBLICKEY: self._keys[0]}
            for option, value in (options | {zmq.CURVE_SECRETKEY: self._keys[1]}).items():
                self._sock.setsockopt(option, value)
        self._sock.connect(f"tcp://127.0.0.1:{port}")

    def send(self, payload: memoryview, deadline: Deadline) -> None:
        self._sock.send(payload, copy=False)

    def receive(self, into: memoryview, deadline: Deadline) -> None:
        into[:] = self._sock.recv(copy=False).buffer

    def close(self) -> None:
        self._context.destroy(linger=0)


class Ours(End):
    """A Nova transport: the tensor header and its rows, packed and unpacked each time, and the payload."""

    def __init__(self, rank: int, name: str, options: dict[str, object]) -> None:
        self._peer = 1 - rank
        self._endpoint = load_transport(name, options).open(Seat("bench", 1, rank, 2, b"bench" * 7))
        self._head = memoryview(bytearray(HEADER_BYTES))
        self._rows = memoryview(bytearray(MAX_ROWS * ROW_BYTES))

    def card(self) -> str:
        return self._endpoint.card().hex()

    def connect(self, cards: list[str]) -> None:
        group = self._endpoint.join([bytes.fromhex(card) for card in cards], self, Deadline.after(CALL_S))
        assert isinstance(group, ByteGroup)
        self._group = group

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        raise FormingFailed("join", "bench", 1 - self._peer, "the bench lends no rendezvous")

    def send(self, payload: memoryview, deadline: Deadline) -> None:
        """The near end starts a chunk, as the driver does; the far end passes it on with its hop, as a stage does."""
        width = len(payload) // 4096
        if self._peer:
            header = Header(layout(Kind.HIDDEN, Flags.NONE, width, "bfloat16", (1, width, 2048)), (RowHead(1, 0),))
        else:
            self._header.add_hop(self._received_ns, 1, 1)
            header = self._header.onward(Kind.HIDDEN, "bfloat16", (1, width, 2048))
        self._group.send([header.pack(), header.pack_rows(), payload], self._peer, deadline)

    def receive(self, into: memoryview, deadline: Deadline) -> None:
        self._group.recv_into(self._head, self._peer, deadline)
        self._received_ns = time.monotonic_ns()
        self._header = Header.unpack(self._head)
        rows = self._rows[: self._header.row_bytes]
        self._group.recv_into(rows, self._peer, deadline)
        self._header.unpack_rows(rows)
        self._group.recv_into(into[: self._header.layout.nbytes], self._peer, deadline)

    def close(self) -> None:
        self._group.abort()
        self._endpoint.close()


def end(name: str, rank: int) -> End:
    """One end of the contender of that name."""
    match name:
        case "socket":
            return BareSocket(rank)
        case "pair" | "pair-curve":
            return BarePair(rank, curve=name == "pair-curve")
        case "tcp":
            return Ours(rank, "tcp", {})
        case _:
            return Ours(rank, "zmq", {"curve": name == "zmq"})


def pin(index: int) -> None:
    """Keep this process on one CPU, where the system can. Whether the scheduler happens to put both ends on one
    CPU changes a round trip tenfold, and would be most of what is measured."""
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[index % len(cpus)]})


class Far:
    """The other process, and the near ends of all contenders."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benches.pingpong"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        pin(0)
        self.ends = {name: end(name, 0) for name in CONTENDERS}
        cards = {name: [near.card()] for name, near in self.ends.items()}
        for name, card in self._heard().items():
            cards[name].append(card)
        self._tell(cards)
        for name, near in self.ends.items():
            near.connect(cards[name])

    def round_trips(self, name: str, size: int, count: int) -> list[float]:
        """Seconds of `count` round trips of `size` bytes; a first one is not counted."""
        self._tell([name, size, count + 1])
        near, out, back = self.ends[name], memoryview(bytearray(size)), memoryview(bytearray(size))
        out[:] = (bytes(range(251)) * (size // 251 + 1))[:size]
        times = []
        for _ in range(count + 1):
            begun = time.perf_counter()
            deadline = Deadline.after(CALL_S)
            near.send(out, deadline)
            near.receive(back, deadline)
            times.append(time.perf_counter() - begun)
        if back != out:
            raise RuntimeError(f"{name} did not return what it was sent")
        return times[1:]

    def close(self) -> None:
        for near in self.ends.values():
            near.close()
        self._child.kill()
        self._child.wait()

    def _tell(self, what: object) -> None:
        assert self._child.stdin is not None
        print(json.dumps(what), file=self._child.stdin, flush=True)

    def _heard(self) -> dict[str, str]:
        assert self._child.stdout is not None
        answer: dict[str, str] = json.loads(self._child.stdout.readline())
        return answer


def echo() -> None:
    """The far end: cards out, cards in, then one line per measurement until the input ends."""
    pin(1)
    ends = {name: end(name, 1) for name in CONTENDERS}
    print(json.dumps({name: far.card() for name, far in ends.items()}), flush=True)
    cards = json.loads(sys.stdin.readline())
    for name, far in ends.items():
        far.connect(cards[name])
    for line in sys.stdin:
        name, size, count = json.loads(line)
        buffer, far = memoryview(bytearray(size)), ends[name]
        for _ in range(count):
            deadline = Deadline.after(CALL_S)
            far.receive(buffer, deadline)
            far.send(buffer, deadline)


if __name__ == "__main__":
    echo()
