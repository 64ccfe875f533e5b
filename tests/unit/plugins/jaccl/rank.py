"""One rank in a process of its own: `python -m tests.unit.plugins.jaccl.rank HOW RANK LEDGER`.

Speaks JSON lines with its parent: its card first, then every blob of an exchange, at the end what it has seen.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from nova_transport_jaccl.backend import Factory, MlxBackend, NativeGroup
from nova_transport_jaccl.endpoint import JacclEndpoint
from nova_transport_jaccl.group import JacclGroup
from nova_transport_jaccl.ledger import Ledger

from nova.clock import Deadline
from nova.engine import verify_arrays
from nova.errors import FormingFailed, TransportError
from nova.log import setup
from nova.wire import phases
from tests.unit.plugins.jaccl.jaccl_like import JacclLike, seat
from tests.unit.plugins.jaccl.machines import cabled

BOOT_S = 1_790_000_000.0
LIMIT_S = 30.0


class OverRing(MlxBackend):
    """MLX's own ring on loopback, told by what JACCL would have been told; HOSTS is its host file."""

    def __init__(self) -> None:
        super().__init__("ring")

    def init(self, factory: Factory | None) -> NativeGroup:
        os.environ["MLX_RANK"] = os.environ["JACCL_RANK"]
        os.environ["MLX_HOSTFILE"] = os.environ["HOSTS"]
        return super().init(None)  # MLX takes a factory for JACCL only


class Crashing(JacclLike):
    """init without librdma, and a pulled cable, end in SIGSEGV."""

    def init(self, factory: Factory | None) -> NativeGroup:
        super().init(factory)
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError("it went on")


class StuckInInit(JacclLike):
    """Waits for ever in C and holds the interpreter's lock, as MLX's init does."""

    def init(self, factory: Factory | None) -> NativeGroup:
        say("stuck")
        ctypes.PyDLL(None).pause()
        raise AssertionError("it went on")


class DeadPort(JacclLike):
    """Forms, and then receives nothing for ever and without an error, as a port does that has idled."""

    def recv(self, shape: Sequence[int], dtype: Any, src: int, group: NativeGroup) -> Any:
        say("stuck")
        ctypes.CDLL(None).pause()
        raise AssertionError("it went on")


BACKENDS = {"ring": OverRing, "crash": Crashing, "stuck": StuckInInit, "dead": DeadPort}


class Lines:
    """The rendezvous, through the parent."""

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        say(blob.hex())
        return [bytes.fromhex(each) for each in json.loads(sys.stdin.readline())]


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


def wrong(cause: str) -> FormingFailed:
    return FormingFailed(phases.VERIFY, "jaccl", 0, cause)


def talk(group: JacclGroup, rank: int) -> dict[str, object]:
    """There and back in several sizes, and what must be refused or added up."""
    other, deadline = 1 - rank, Deadline.after(LIMIT_S)
    seen = []
    for shape in ((1,), (7, 3), (512, 1024)):
        array = (mx.arange(shape[0] * shape[-1]) % 251).astype(mx.bfloat16).reshape(shape[0], -1)
        mx.eval(array)
        if rank == 0:
            group.send_array(array, other, deadline)
            back = group.recv_array(array.shape, mx.bfloat16, other, deadline)
            seen.append(bool(mx.array_equal(back, array * 2)))
        else:
            got = group.recv_array(array.shape, mx.bfloat16, other, deadline)
            seen.append(bool(mx.array_equal(got, array)))
            doubled = got * 2
            mx.eval(doubled)
            group.send_array(doubled, other, deadline)
    verify_arrays.arrays(group, seat(rank), deadline, wrong)  # what Nova asks of every group of arrays
    verify_arrays.collectives(group, seat(rank), wrong)
    total = mx.distributed.all_sum(mx.array([rank + 1.0]), group=group.native(), stream=mx.cpu)  # type: ignore[arg-type]
    try:
        again = str(MlxBackend("ring").init(None))
    except TransportError as error:
        again = str(error)
    return {"right": seen, "sum": total.item(), "again": again}


def main(how: str, number: str, ledger: str) -> None:
    setup("warning", "text")  # to standard error: standard output is for the lines
    rank = int(number)
    endpoint = JacclEndpoint(seat(rank), cabled(rank, {1 - rank: 1}), BACKENDS[how](), Ledger(Path(ledger), BOOT_S))
    say(endpoint.card().decode())
    cards = [card.encode() for card in json.loads(sys.stdin.readline())]
    group = endpoint.join(cards, Lines(), Deadline.after(LIMIT_S))
    assert isinstance(group, JacclGroup)
    if how == "dead":
        group.recv_array((1,), mx.float32, 1 - rank, Deadline.after(1.0))
    say(talk(group, rank))


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # as an engine ends
