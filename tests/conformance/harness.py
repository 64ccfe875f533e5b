"""Groups to test with: ranks as threads, or some of them as real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from nova.clock import Deadline
from nova.errors import FormingFailed, NovaError
from nova.transport.api import ByteGroup, Endpoint, Seat, Transport

JOIN_S = 10.0
TICKET = b"t" * 32


@dataclass(frozen=True)
class Harness:
    """A transport under test. `make` returns one rank's transport; `listens` says that it opens ports."""

    name: str
    make: Callable[[], Transport]
    process: bool
    listens: bool

    def seat(self, rank: int, size: int, ticket: bytes = TICKET, generation: int = 1) -> Seat:
        return Seat("conformance", generation, rank, size, ticket)

    def join(self, seats: Sequence[Seat], join_s: float = JOIN_S) -> list[ByteGroup | FormingFailed]:
        """Every seat's outcome, in order; all ranks join at one go."""
        endpoints = [self.make().open(seat) for seat in seats]
        return join_all(endpoints, [endpoint.card() for endpoint in endpoints], join_s)

    @contextmanager
    def group(self, size: int = 2) -> Iterator[list[ByteGroup]]:
        """A group whose ranks are threads of this process."""
        outcomes = self.join([self.seat(rank, size) for rank in range(size)])
        groups = [outcome for outcome in outcomes if isinstance(outcome, ByteGroup)]
        try:
            assert len(groups) == size, outcomes
            yield groups
        finally:
            for group in groups:
                group.abort()


def join_all(
    endpoints: Sequence[Endpoint], cards: Sequence[bytes], join_s: float = JOIN_S
) -> list[ByteGroup | FormingFailed]:
    def one(endpoint: Endpoint) -> ByteGroup | FormingFailed:
        try:
            group = endpoint.join(cards, NoRendezvous(), Deadline.after(join_s))
            assert isinstance(group, ByteGroup)
            return group
        except FormingFailed as error:
            return error
        finally:
            endpoint.close()

    with ThreadPoolExecutor(len(endpoints)) as pool:
        return list(pool.map(one, endpoints))


class NoRendezvous:
    """These transports form by their cards alone."""

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        raise FormingFailed("join", "conformance", -1, "no rendezvous was lent")


class Background:
    """A call in another thread. `result` waits for it and raises what it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._future: Future[object] = Future()
        self._call = call
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._future.set_result(self._call())
        except (NovaError, AssertionError) as error:
            self._future.set_exception(error)

    def result(self, within_s: float = 5.0) -> None:
        try:
            self._future.result(within_s)
        except TimeoutError:
            raise AssertionError("the call is still blocked") from None


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds)


class Process:
    """A rank in a process of its own, told what to do line by line."""

    def __init__(self, name: str, rank: int, size: int) -> None:
        command = [sys.executable, "-m", "tests.conformance.rank", name, str(rank), str(size)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.card = bytes.fromhex(self.heard())

    def tell(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def heard(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def kill(self) -> None:
        """As by `kill -9`."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def with_process(harness: Harness) -> Iterator[tuple[ByteGroup, Process]]:
    """Rank 0 here, rank 1 in another process."""
    child = Process(harness.name, 1, 2)
    try:
        endpoint = harness.make().open(harness.seat(0, 2))
        cards = [endpoint.card(), child.card]
        child.tell(json.dumps([card.hex() for card in cards]))
        (group,) = join_all([endpoint], cards)
        assert isinstance(group, ByteGroup), group
        try:
            assert child.heard() == "joined"
            yield group, child
        finally:
            group.abort()
    finally:
        child.kill()
