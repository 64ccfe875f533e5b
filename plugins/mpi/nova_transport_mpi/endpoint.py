"""Opened, not yet connected: from a seat to a place in an MPI world."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from nova.clock import Deadline
from nova.errors import ProtocolError
from nova.transport.api import Endpoint, Rendezvous, Seat
from nova.transport.network import is_ours
from nova_transport_mpi import backend
from nova_transport_mpi.errors import failed, translate
from nova_transport_mpi.group import MpiGroup
from nova_transport_mpi.launcher import END_S, Launcher, LaunchFailed
from nova_transport_mpi.world import answered, card, hosts, told


class MpiEndpoint(Endpoint):
    """Rank 0 runs mpirun. Its copies only hold the places of the world, and the engines take these over."""

    def __init__(self, seat: Seat, path: str, mpirun: str, network: str) -> None:
        """`path` is the library's; `network` is where ranks on other machines are dialled ("192.168.2.0/24")."""
        self._seat = seat
        self._path = path
        self._mpirun = mpirun
        self._network = network
        self._closed = False

    def card(self) -> bytes:
        return card(self._seat)

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> MpiGroup:
        """Raises FormingFailed. From the second all-gather on MLX's init may block for longer than the deadline."""
        seat = self._seat
        if self._closed:
            raise failed(seat.rank, "its endpoint is closed")
        try:
            ranks = hosts(seat, cards)
        except ProtocolError as error:
            raise translate(error, forming=seat.rank) from error
        apart = [] if together(ranks) else ranks
        rendezvous.all_gather(b"", deadline)  # no mpirun for ranks of which one does not come
        with ExitStack() as undo:
            launcher, answer = self._launched(apart, deadline, undo) if seat.rank == 0 else (None, b"")
            first, *_ = rendezvous.all_gather(answer, deadline)
            try:
                place = answered(seat, first)
            except ProtocolError as error:
                raise translate(error, forming=seat.rank) from error
            group = backend.init(self._path, place, seat.rank, seat.size, self._network if apart else "")
            undo.pop_all()
        return MpiGroup(seat, group, launcher)

    def _launched(self, apart: Sequence[str], deadline: Deadline, undo: ExitStack) -> tuple[Launcher | None, bytes]:
        """mpirun, and what the other ranks are to know: their places, or why there are none."""
        try:
            launcher = Launcher(self._mpirun, self._seat.size, apart)
            undo.callback(lambda: launcher.wait(Deadline.after(END_S)))
            undo.callback(launcher.end)
            soon = Deadline.after(deadline.remaining() / 2)  # the others are to hear a reason before they give up
            return launcher, told(launcher.places(self._seat.size, soon))
        except (LaunchFailed, ProtocolError, OSError) as error:
            return None, told([], f"{self._mpirun}: {error}")

    def close(self) -> None:
        self._closed = True


def together(hosts: Sequence[str]) -> bool:
    """Whether these addresses are all of this machine."""
    return all(map(is_ours, hosts))
