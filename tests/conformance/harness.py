"""Groups to test with: ranks as threads, or some of them as real processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Endpoint, Group, Seat, Transport

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

    def join(self, seats: Sequence[Seat], join_s: float = JOIN_S) -> list[Group | FormingFailed]:
        """Every seat's outcome, in order; all ranks join at one go."""
        endpoints = [self.make().open(seat) for seat in seats]
        return join_all(endpoints, [endpoint.card() for endpoint in endpoints], join_s)

    @contextmanager
    def group(self, size: int = 2) -> Iterator[list[Group]]:
        """A group whose ranks are threads of this process."""
        outcomes = self.join([self.seat(rank, size) for rank in range(size)])
        groups = [outcome for outcome in outcomes if isinstance(outcome, Group)]
        try:
            assert len(groups) == size, outcomes
            yield groups
        finally:
            for group in groups:
                group.abort()


def join_all(
    endpoints: Sequence[Endpoint], cards: Sequence[bytes], join_s: float = JOIN_S
) -> list[Group | FormingFailed]:
    def one(endpoint: Endpoint) -> Group | FormingFailed:
        try:
            return endpoint.join(cards, NoRendezvous(), Deadline.after(join_s))
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
        self._call = call
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:  # handed to the test by `result`
            self._error = error

    def result(self, within_s: float = 5.0) -> None:
        self._thread.join(within_s)
        assert not self._thread.is_alive(), "the call is still blocked"
        if self._error is not None:
            raise self._error


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds)
