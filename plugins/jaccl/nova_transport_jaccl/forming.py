"""One join: from all ranks' facts to MLX's group, proved by a first sum.

MLX's init holds the interpreter's lock for all of its time and knows no deadline, and a process that is killed hard
inside it can leave the device stuck until a power cycle. So init is called with SIGTERM at its default action, which
ends the process at once and lets the kernel clean up; a Python handler would never run in there. And the start is
counted in the ledger before it begins.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import structlog

from nova.clock import Deadline
from nova.errors import FormingFailed, TransportError
from nova.transport.api import Rendezvous, Seat
from nova.wire import phases
from nova_transport_jaccl.backend import Backend, Factory, Gather, NativeGroup
from nova_transport_jaccl.environment import applied, device_file, variables
from nova_transport_jaccl.errors import NAME, translate
from nova_transport_jaccl.facts import Facts, Mlx
from nova_transport_jaccl.group import JacclGroup
from nova_transport_jaccl.ledger import Ledger
from nova_transport_jaccl.matrix import plan
from nova_transport_jaccl.verdict import alike, judge

log = structlog.get_logger(__name__)


class Forming:
    """The state of one join. `facts` are by rank, `coordinator` is host:port of rank 0."""

    def __init__(self, seat: Seat, backend: Backend, ledger: Ledger, facts: Sequence[Facts], coordinator: str) -> None:
        self._seat = seat
        self._backend = backend
        self._ledger = ledger
        self._facts = facts
        self._coordinator = coordinator

    def join(self, rendezvous: Rendezvous, deadline: Deadline, release: Callable[[], None]) -> JacclGroup:
        """`release` frees what was held for MLX, just before it takes it. Raises FormingFailed."""
        try:
            self._check()
            cabling = plan([judge(facts) for facts in self._facts])
            log.info("forming JACCL", topology=cabling.topology, matrix=cabling.matrix, rank=self._seat.rank)
            with ExitStack() as undo:
                path = undo.enter_context(device_file(cabling))
                undo.enter_context(
                    applied(variables(cabling, self._seat.rank, path, self._coordinator, self._mlx.version))
                )
                release()
                native = self._start(rendezvous, deadline)
        except FormingFailed:
            raise
        except TransportError as error:
            raise self._failed(str(error)) from error
        except (RuntimeError, ValueError, OSError) as error:
            raise translate(error, own=self._seat.rank, phase=phases.JOIN) from error
        return JacclGroup(self._seat, self._backend, native, cabling, self._mlx.version)

    def _start(self, rendezvous: Rendezvous, deadline: Deadline) -> NativeGroup:
        factory = self._factory(rendezvous, deadline) if self._mlx.factory else None
        self._ledger.begin()
        native = self._backend.init(factory)
        rank, size = native.rank(), native.size()
        if (rank, size) != (self._seat.rank, self._seat.size):
            raise self._failed(f"MLX says rank {rank} of {size}, expected {self._seat.rank} of {self._seat.size}")
        sums = self._backend.barrier(native)
        if set(sums) != {size}:
            raise self._failed(f"the first sum over {size} ranks is wrong: {sorted(set(sums))[:4]} instead of {size}")
        self._ledger.succeeded()
        if deadline.expired:
            raise self._failed("the ranks came together after the deadline")
        return native

    @property
    def _mlx(self) -> Mlx:
        mlx = self._facts[self._seat.rank].mlx
        assert mlx is not None  # the gatherer fills it in
        return mlx

    def _check(self) -> None:
        """What must hold before MLX is touched. Raises FormingFailed."""
        if len(self._facts) != self._seat.size:
            raise self._failed(f"{len(self._facts)} cards for {self._seat.size} ranks")
        ours = alike(self._facts[self._seat.rank])
        for rank, facts in enumerate(self._facts):
            if (theirs := alike(facts)) != ours:
                raise self._failed(
                    f"rank {rank} has {theirs}, this rank {ours}: the data would be garbled; update both"
                )
            if facts.mlx != self._mlx:
                raise self._failed(f"rank {rank} has an MLX of another build: install the same wheel on both")
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            raise self._failed("SIGTERM has a handler in this process, so a stuck start could not be ended safely")

    def _factory(self, rendezvous: Rendezvous, deadline: Deadline) -> Factory:
        """MLX's side channel over ours: authenticated, with a deadline, and no second port."""

        def factory(rank: int, size: int) -> Gather:
            if (rank, size) != (self._seat.rank, self._seat.size):
                raise self._failed(f"MLX takes this for rank {rank} of {size}")
            return gather

        def gather(blob: bytes, count: int) -> bytes:
            blobs = rendezvous.all_gather(bytes(blob), deadline)
            for rank, each in enumerate(blobs):
                if len(each) != count:
                    raise self._failed(f"rank {rank} sent {len(each)} bytes to MLX's exchange, {count} were awaited")
            if len(blobs) != self._seat.size:
                raise self._failed(f"{len(blobs)} answers for {self._seat.size} ranks")
            return b"".join(blobs)

        return factory

    def _failed(self, cause: str) -> FormingFailed:
        return FormingFailed(phases.JOIN, NAME, self._seat.rank, cause)
