"""From fields to Sampling, and several requests at once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.api.ask import choices, sampling, seeds, served
from nova.api.errors import ApiError
from nova.coordinator.port import Event
from nova.wire.requests import Completed, Failed, Generate, Piece
from nova.wire.work import Sampling
from tests.unit.api.fake import LIMIT_S, MODEL, FakePort


def asks(count: int) -> list[Generate]:
    return [Generate(f"r{index}", [1], 4, Sampling()) for index in range(count)]


async def hear(port: FakePort, count: int) -> list[tuple[int, Event]]:
    async with asyncio.timeout(LIMIT_S), aclosing(choices(port, asks(count))) as events:
        return [one async for one in events]


@given(st.one_of(st.none(), st.integers(-(1 << 70), 1 << 70)), st.integers(1, 20))
def test_seeds_are_63_bits_and_all_different(seed: int | None, count: int) -> None:
    found = seeds(seed, count)
    assert len(set(found)) == count
    assert all(0 <= one < 1 << 63 for one in found)
    if seed is not None:
        assert found[0] == seed % (1 << 63)
        assert seeds(seed, count + 1)[:count] == found


def test_a_request_counts_before_the_model_and_the_model_before_openai() -> None:
    model = FakePort(sampling={"temperature": 0.6, "top_k": 20}).model
    assert model is not None
    found = sampling(model, 5, {"top_k": 3, "temperature": None, "min_p": 0.0})
    assert (found.seed, found.temperature, found.top_k, found.top_p, found.min_p) == (5, 0.6, 3, 1.0, 0.0)


@pytest.mark.parametrize("name", [None, "", MODEL])
def test_no_name_is_the_served_model(name: str | None) -> None:
    assert served(FakePort(), name).name == MODEL


@pytest.mark.parametrize("count", [1, 4])
def test_each_choice_is_heard_whole_and_in_order(count: int) -> None:
    port = FakePort()
    heard = asyncio.run(hear(port, count))
    for index in range(count):
        mine = [event for which, event in heard if which == index]
        assert "".join(event.text for event in mine if isinstance(event, Piece)) == port.text
        assert isinstance(mine[-1], Completed)
    assert port.abandoned.empty()


@pytest.mark.parametrize("count", [1, 4])
def test_closing_early_abandons_every_choice(count: int) -> None:
    port = FakePort(held=True)

    async def stop() -> None:
        async with asyncio.timeout(LIMIT_S), aclosing(choices(port, asks(count))) as events:
            for _ in range(count):
                await anext(events)

    asyncio.run(stop())
    assert sorted(port.abandoned.get_nowait() for _ in range(count)) == [f"r{index}" for index in range(count)]


@pytest.mark.parametrize("count", [1, 4])
def test_a_cancelled_listener_abandons_every_choice(count: int) -> None:
    port = FakePort(held=True)

    async def cancel() -> None:
        task = asyncio.create_task(hear(port, count))
        async with asyncio.timeout(LIMIT_S):
            while len(port.asked) < count:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    assert sorted(port.abandoned.get_nowait() for _ in range(count)) == [f"r{index}" for index in range(count)]


@pytest.mark.parametrize("count", [1, 4])
def test_the_first_failure_is_raised_and_abandons_the_others(count: int) -> None:
    port = FakePort(failure=Failed("", "gone", code="lost"), fails_after=2, others_held=True)
    with pytest.raises(ApiError, match="gone"):
        asyncio.run(hear(port, count))
    assert sorted(port.abandoned.get_nowait() for _ in range(count - 1)) == [f"r{index}" for index in range(1, count)]
