"""VERIFY of arrays and collectives: every dtype and size comes back as it went, every operation gives its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from nova.clock import Deadline
from nova.engine.lanes import Lanes
from nova.engine.verify import STAMP_BYTES, verify
from nova.engine.verify_arrays import DTYPES, SIZES, collectives, pattern
from nova.errors import FormingFailed, TransportError
from nova.transport.memory import Hub, MemoryGroup
from nova.wire import phases
from nova.wire.values import LinkMeasure
from tests.unit.engine.ranks import CAPACITY, at_once, seat

SIZE = 3
NAMES = ("all_sum", "all_max", "all_min", "all_gather", "sum_scatter")


class Garbled(MemoryGroup):
    """An array that comes is what `garble` makes of it."""

    garble: Callable[[mx.array], mx.array]

    def recv_array(self, shape: Sequence[int], dtype: Any, src: int, deadline: Deadline) -> Any:
        return self.garble(super().recv_array(shape, dtype, src, deadline))


def last_changed(array: mx.array) -> mx.array:
    return mx.concatenate([array[:-1], array[-1:] + 1])


def outcomes(garble: Callable[[mx.array], mx.array]) -> list[LinkMeasure | TransportError]:
    """What each of two ranks finds, of which the second gets its arrays garbled."""
    hub = Hub()
    second = Garbled(hub, seat(1, 2), CAPACITY)
    second.garble = garble

    def one(group: MemoryGroup) -> LinkMeasure | TransportError:
        try:
            return verify(Lanes(group, group, [group]), seat(group.rank, 2), "memory", Deadline.after(20.0))
        except TransportError as error:
            group.abort()
            return error

    return at_once([lambda: one(MemoryGroup(hub, seat(0, 2), CAPACITY)), lambda: one(second)])


def test_arrays_that_come_as_they_went_pass_and_the_link_is_measured_over_them() -> None:
    assert all(isinstance(link, LinkMeasure) for link in outcomes(lambda array: array))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_changed_number_of_any_dtype_is_found(dtype: mx.Dtype) -> None:
    one, other = outcomes(lambda array: last_changed(array) if array.dtype == dtype and array.size == 1023 else array)
    assert isinstance(other, FormingFailed)
    assert other.cause == f"1023 numbers of {dtype} came from rank 0 as others"
    assert isinstance(one, TransportError)


@pytest.mark.parametrize("size", SIZES)
def test_a_changed_number_of_any_size_is_found(size: int) -> None:
    _, other = outcomes(lambda array: last_changed(array) if array.size == size else array)
    assert isinstance(other, FormingFailed)
    assert f"{size} numbers of " in other.cause


@pytest.mark.parametrize(
    "garble", [lambda array: array.astype(mx.float32), lambda array: array[None]], ids=["dtype", "shape"]
)
def test_an_array_of_another_dtype_or_shape_is_found(garble: Callable[[mx.array], mx.array]) -> None:
    _, other = outcomes(lambda array: garble(array) if array.dtype == mx.bfloat16 else array)
    assert isinstance(other, FormingFailed)
    assert "came from rank 0 as others" in other.cause


def test_a_group_of_arrays_that_leads_to_a_stranger_is_found_although_its_side_channel_does_not() -> None:
    _, other = outcomes(lambda array: last_changed(array) if array.size == STAMP_BYTES else array)
    assert isinstance(other, FormingFailed)
    assert other.cause.startswith("rank 0 showed a wrong stamp")


@dataclass
class Native:
    """In the place of an `mx.distributed.Group`."""

    own: int = 1

    def rank(self) -> int:
        return self.own

    def size(self) -> int:
        return SIZE


@dataclass
class Collective:
    """A `CollectiveGroup` over fakes of MLX's operations."""

    collectives: frozenset[str]
    group: Native

    def native(self) -> Native:
        return self.group


def answer(name: str, size: int, dtype: mx.Dtype, rank: int) -> mx.array:
    """The right one, worked out in NumPy's integers."""
    every = np.stack([np.array(pattern(size, mx.int32, each)) for each in range(SIZE)])
    match name:
        case "all_sum":
            found = every.sum(0)
        case "all_max":
            found = every.max(0)
        case "all_min":
            found = every.min(0)
        case "all_gather":
            found = every.reshape(-1)
        case _:
            found = every.sum(0).reshape(SIZE, -1)[rank]
    return mx.array(found.astype(np.int32)).astype(dtype)


def verified(
    monkeypatch: pytest.MonkeyPatch,
    names: Sequence[str],
    wrong: Callable[[str, mx.array], mx.array] = lambda name, right: right,
    native: Native | None = None,
) -> int:
    """Run the check with MLX's operations replaced; how many were called."""
    group, calls = native or Native(), 0
    for name in names:

        def operation(x: mx.array, *, group: Native, stream: Any, name: str = name) -> mx.array:
            nonlocal calls
            calls += 1
            return wrong(name, answer(name, x.size, x.dtype, group.rank()))

        monkeypatch.setattr(mx.distributed, name, operation)
    here = seat(1, SIZE)
    collectives(
        Collective(frozenset(names), group), here, lambda cause: FormingFailed(phases.VERIFY, "fake", here.rank, cause)
    )
    return calls


def test_every_declared_collective_is_asked_in_every_dtype_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verified(monkeypatch, NAMES) == len(NAMES) * len(DTYPES) * len(SIZES)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_answer_of_any_collective_in_any_dtype_is_found(
    name: str, dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(of: str, right: mx.array) -> mx.array:
        return last_changed(right) if of == name and right.dtype == dtype else right

    with pytest.raises(FormingFailed, match=rf"{name} of \d+ numbers of {dtype} gave a wrong answer"):
        verified(monkeypatch, NAMES, wrong)


def test_an_all_gather_in_another_order_of_ranks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(_: str, right: mx.array) -> mx.array:
        return mx.concatenate(list(mx.split(right, SIZE))[::-1])

    with pytest.raises(FormingFailed, match="all_gather of 3 numbers"):
        verified(monkeypatch, ["all_gather"], swapped)


def test_another_rank_inside_mlx_is_found_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormingFailed, match="MLX's group says rank 0 of 3, expected 1 of 3"):
        verified(monkeypatch, ["all_sum"], native=Native(0))


def test_a_declared_operation_whose_answer_nobody_knows_is_refused() -> None:
    group = Collective(frozenset({"all_product"}), Native())
    here = seat(1, SIZE)
    with pytest.raises(FormingFailed, match="declares all_product, and nobody here knows the right answer"):
        collectives(group, here, lambda cause: FormingFailed(phases.VERIFY, "fake", here.rank, cause))
