"""A formed group: arrays cross it one at a time, and its first error is its last."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import pytest
from nova_transport_jaccl.backend import NativeGroup
from nova_transport_jaccl.group import CAPS, JacclGroup, collectives
from nova_transport_jaccl.matrix import Plan

from nova.clock import Deadline
from nova.errors import GroupBroken, GroupClosed, PeerLost, TransferTimeout, TransportError
from nova.transport.api import ByteGroup, Caps
from tests.unit.plugins.jaccl.jaccl_like import JacclLike, Native, Wires, seat

MESH = Plan("mesh", [[None, ["a"]], [["b"], None]])
LIMIT_S = 10.0


def soon() -> Deadline:
    return Deadline.after(LIMIT_S)


def group(backend: JacclLike, rank: int = 0, plan: Plan = MESH, mlx: str = "0.32.4") -> JacclGroup:
    size = len(plan.matrix)
    return JacclGroup(seat(rank, size), backend, Native(rank, size), plan, mlx)


def ones() -> mx.array:
    """Evaluated, so that any thread may send it."""
    array = mx.ones(1)
    mx.eval(array)
    return array


def pair() -> tuple[JacclGroup, JacclGroup]:
    wires = Wires()
    return group(JacclLike(wires), 0), group(JacclLike(wires), 1)


def test_arrays_arrive_in_order() -> None:
    one, other = pair()
    for number in range(3):
        one.send_array(mx.full((2, 2), number), 1, soon())
    got = [other.recv_array((2, 2), mx.float32, 0, soon())[0, 0].item() for _ in range(3)]
    assert got == [0, 1, 2]


def test_it_promises_arrays_and_collectives_and_no_more() -> None:
    one, _ = pair()
    assert one.caps == CAPS == Caps.ARRAYS | Caps.COLLECTIVES | Caps.INTER_HOST
    assert not isinstance(one, ByteGroup)
    assert one.native().size() == 2


def test_all_gather_is_left_out_where_it_returns_uninitialised_memory() -> None:
    ring = Plan("ring", MESH.matrix)
    assert "all_gather" not in group(JacclLike(), plan=ring, mlx="0.32.2").collectives
    assert "all_gather" in group(JacclLike(), plan=ring, mlx="0.32.3").collectives
    assert "all_gather" in group(JacclLike(), mlx="0.32.2").collectives
    assert collectives("0.32.2") == ("all_sum", "all_max", "all_min")  # a node alone must expect a ring


@pytest.mark.parametrize(
    "array",
    [mx.zeros((0,)), mx.zeros((3, 0)), mx.arange(12).reshape(3, 4).T, mx.broadcast_to(mx.array([1.0]), (4, 4))],
)
def test_what_mlx_would_garble_or_die_of_is_refused_before_it(array: mx.array) -> None:
    backend = JacclLike()
    one = group(backend)
    with pytest.raises(ValueError, match="array"):
        one.send_array(array, 1, soon())
    assert backend.calls == []
    one.send_array(mx.contiguous(mx.arange(12).reshape(3, 4).T), 1, soon())  # the group is whole


def test_an_empty_shape_is_refused_before_mlx() -> None:
    backend = JacclLike()
    with pytest.raises(ValueError, match="empty"):
        group(backend).recv_array((2, 0), mx.float32, 1, soon())
    assert backend.calls == []


@pytest.mark.parametrize("rank", [0, 2, -1])
def test_a_rank_without_a_cable_is_refused_before_mlx(rank: int) -> None:
    backend = JacclLike()
    with pytest.raises(ValueError, match=f"rank 0 has no cable to rank {rank}"):
        group(backend).send_array(mx.ones(1), rank, soon())
    assert backend.calls == []


FAULTS: list[tuple[Exception, type[TransportError]]] = [
    (RuntimeError("[jaccl] Recv failed with errno=2"), PeerLost),
    (RuntimeError("[jaccl] Send failed with error code 60"), PeerLost),
    (ValueError("[jaccl] Recv failed with error code 22"), GroupBroken),
    (ValueError("Cannot send to a singleton group"), GroupBroken),
]


@pytest.mark.parametrize(("fault", "kind"), FAULTS)
def test_the_first_error_breaks_the_group_for_good(fault: Exception, kind: type[TransportError]) -> None:
    backend = JacclLike(fails={"recv": fault})
    one = group(backend)
    with pytest.raises(kind, match="rank 1") as first:
        one.recv_array((1,), mx.float32, 1, soon())
    assert first.value.__cause__ is fault
    with pytest.raises(GroupBroken, match="broke earlier"):
        one.send_array(ones(), 1, soon())
    assert backend.calls == ["recv"]  # using it again could hang for ever


class Blocking(JacclLike):
    """Receives nothing until it is let go, as JACCL does when nothing comes."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.let_go = threading.Event(), threading.Event()

    def recv(self, shape: Sequence[int], dtype: Any, src: int, group: NativeGroup) -> Any:
        self.entered.set()
        assert self.let_go.wait(LIMIT_S)
        return mx.ones(shape)


def test_one_operation_waits_for_the_other_until_its_deadline() -> None:
    backend = Blocking()
    one = group(backend)
    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(one.recv_array, (1,), mx.float32, 1, soon())
        assert backend.entered.wait(LIMIT_S)
        with pytest.raises(TransferTimeout, match="another transfer was under way"):
            one.send_array(ones(), 1, Deadline.after(0.05))
        assert backend.calls == []
        backend.let_go.set()
        assert receiving.result(LIMIT_S).size == 1
    one.send_array(ones(), 1, soon())  # nothing had moved, so the group is whole


@pytest.mark.parametrize("end", ["close", "abort"])
def test_an_end_does_not_wait_for_a_blocked_call_and_refuses_later_ones(end: str) -> None:
    backend = Blocking()
    one = group(backend)
    with ThreadPoolExecutor(2) as pool:
        receiving = pool.submit(one.recv_array, (1,), mx.float32, 1, soon())
        assert backend.entered.wait(LIMIT_S)
        waiting = pool.submit(one.send_array, ones(), 1, soon())
        one.close(Deadline.after(0)) if end == "close" else one.abort()
        assert not receiving.done()
        with pytest.raises(GroupClosed):
            one.send_array(ones(), 1, soon())
        backend.let_go.set()
        receiving.result(LIMIT_S)
        with pytest.raises(GroupClosed):
            waiting.result(LIMIT_S)
    assert "send" not in backend.calls
    one.abort()
    one.close(soon())
