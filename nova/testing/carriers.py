"""Bytes between two ranks, over parts or over arrays: what holds for both kinds of transfer is one case's text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from nova.clock import Deadline
from nova.testing.case import NOTHING, Case, add, promise
from nova.testing.checks import check
from nova.testing.rank import Rank
from nova.transport.api import ArrayGroup, ByteGroup, Caps, Group


class Carrier(Protocol):
    """A way to move bytes of a known number."""

    def put(self, data: bytes, dst: int, deadline: Deadline) -> None: ...
    def take(self, count: int, src: int, deadline: Deadline) -> bytes: ...


@dataclass
class Parts:
    """Over a group of bytes."""

    group: ByteGroup

    def put(self, data: bytes, dst: int, deadline: Deadline) -> None:
        self.group.send([data], dst, deadline)

    def take(self, count: int, src: int, deadline: Deadline) -> bytes:
        out = bytearray(count)
        self.group.recv_into(out, src, deadline)
        return bytes(out)


@dataclass
class Arrays:
    """Over a group of arrays."""

    group: ArrayGroup

    def put(self, data: bytes, dst: int, deadline: Deadline) -> None:
        import mlx.core as mx  # only here: a transport of bytes is tested without it

        array = mx.array(memoryview(data))  # type: ignore[arg-type]  # takes any buffer
        mx.eval(array)
        self.group.send_array(array, dst, deadline)

    def take(self, count: int, src: int, deadline: Deadline) -> bytes:
        import mlx.core as mx

        return bytes(memoryview(self.group.recv_array((count,), mx.uint8, src, deadline)))


def carrier_of(group: Group) -> Carrier:
    """Over parts where the group has them, else over arrays."""
    if isinstance(group, ByteGroup):
        return Parts(group)
    check(isinstance(group, ArrayGroup), f"{type(group).__name__} moves neither bytes nor arrays")
    return Arrays(cast(ArrayGroup, group))


Body = Callable[[Rank, Carrier], None]


def each_carrier(
    ranks: int = 2,
    needs: Caps = NOTHING,
    processes: bool = False,
    dies: frozenset[int] = frozenset(),
    blocks: frozenset[int] = frozenset(),
) -> Callable[[Body], Body]:
    """Register a function of a rank and a carrier as two cases, one of parts and one of arrays."""

    def register(body: Body) -> Body:
        kinds: tuple[tuple[str, Caps, Callable[[Rank], None]], ...] = (
            ("parts", Caps.BYTES, lambda rank: body(rank, Parts(rank.parts))),
            ("arrays", Caps.ARRAYS, lambda rank: body(rank, Arrays(rank.arrays))),
        )
        for kind, cap, run in kinds:
            name = f"{body.__name__}_of_{kind}"
            add(Case(name, run, promise(body), ranks, needs | cap, processes=processes, dies=dies, blocks=blocks))
        return body

    return register
