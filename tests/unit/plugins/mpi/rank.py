"""One engine's part in a group over MPI: `python rank.py WHAT SEAT`, driven over its standard input and output.

It writes a blob for each all-gather, as a line of hexadecimal, and reads a line with all of them; then it does WHAT.
"""

from __future__ import annotations

import base64
import functools
import os
import sys
from collections.abc import Callable

import msgspec
import psutil
from nova_transport_mpi import MpiConfig, MpiTransport, backend
from nova_transport_mpi import endpoint as forming
from nova_transport_mpi.group import MpiGroup
from nova_transport_mpi.world import Place

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Seat

JOIN_S = 10.0
SIZE = 100


class Told(msgspec.Struct):
    """A seat, and the path of mpirun or nothing for the real one."""

    rank: int
    size: int
    mpirun: str = ""
    join_s: float = JOIN_S
    over_tcp: bool = False
    """As between machines: rank 0 names hosts to mpirun, and the ranks share no memory."""


class Lines:
    """A rendezvous over standard input and output."""

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        say("gather " + blob.hex())
        return [bytes.fromhex(each) for each in sys.stdin.readline().rstrip("\n").split(",")]


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    told = msgspec.json.decode(base64.b64decode(sys.argv[2]), type=Told)
    seat = Seat("group", 1, told.rank, told.size, b"t" * 32)
    if told.over_tcp:
        forming.together = lambda hosts: False
        backend.parameters = functools.partial(_over_loopback, backend.parameters)
    endpoint = MpiTransport(MpiConfig(mpirun=told.mpirun)).open(seat)
    line = Lines()
    cards = line.all_gather(endpoint.card(), Deadline.after(JOIN_S))
    try:
        group = endpoint.join(cards, line, Deadline.after(told.join_s))
    except FormingFailed as error:
        say(f"failed {error}")
        return
    say("joined")
    DOES[sys.argv[1]](group)


def _over_loopback(parameters: Callable[[Place, str], dict[str, str]], place: Place, network: str) -> dict[str, str]:
    """The domain of loopback names no network; this is the one that it has."""
    return parameters(place, "127.0.0.0/8")


def _wait(group: MpiGroup) -> None:
    sys.stdin.readline()


def _close(group: MpiGroup) -> None:
    """Rank 0 sends and closes at once; the other receives."""
    import mlx.core as mx

    for index in range(3):
        if group.rank == 0:
            array = mx.full((SIZE,), index, dtype=mx.int32)
            mx.eval(array)
            group.send_array(array, 1, Deadline.after(JOIN_S))
        else:
            came = group.recv_array((SIZE,), mx.int32, 0, Deadline.after(JOIN_S))
            say(f"came {set(memoryview(came).tolist())}")
    if group.rank == 0:
        group.close(Deadline.after(JOIN_S))
        left = [child.name() for child in psutil.Process().children()]
        say(f"closed {left}")
        sys.stdin.readline()


def _wait_for_rank_1(group: MpiGroup) -> None:
    import mlx.core as mx

    if group.rank == 1:
        sys.stdin.readline()
    group.recv_array((SIZE,), mx.int32, 1, Deadline.after(JOIN_S))
    say("returned")


DOES: dict[str, Callable[[MpiGroup], None]] = {"wait": _wait, "close": _close, "wait-for-1": _wait_for_rank_1}

if __name__ == "__main__":
    main()
    os._exit(0)
