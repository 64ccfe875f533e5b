"""Costs of many stages kept as two figures: the decisions are those of the engine's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.plan.costs import Costs, decode_rate, micro_batches, prefill_chunk, throttled
from nova.sim.costs import WideCosts

stages = st.lists(st.floats(0.001, 0.01), min_size=2, max_size=40)
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def learned(seconds: Sequence[float], sizes: Sequence[int], slope: float) -> tuple[Costs, WideCosts]:
    exact, wide = Costs(len(seconds)), WideCosts(len(seconds))
    for size in sizes:
        for costs in (exact, wide):
            costs.saw(False, size, [each * (1 + slope * size) for each in seconds])
            costs.saw(True, 8 * size, [each * (1 + slope * size) for each in seconds])
    return exact, wide


@given(stages, sizes, st.floats(0, 1), st.integers(1, 60), st.data())
def test_they_decide_as_costs_of_every_stage_do(
    seconds: list[float], sizes: list[int], slope: float, streams: int, data: st.DataObject
) -> None:
    exact, wide = learned(seconds, sizes, slope)
    groups = data.draw(st.integers(1, streams))
    assert decode_rate(wide, streams, groups) == pytest.approx(decode_rate(exact, streams, groups))
    for size in (1, 7, 100):
        assert sum(wide.decode(size)) == pytest.approx(sum(exact.decode(size)))
        assert max(wide.prefill(size)) == pytest.approx(max(exact.prefill(size)))


@given(stages)
def test_before_anything_is_known_they_guess_alike(seconds: list[float]) -> None:
    exact, wide = Costs(len(seconds)), WideCosts(len(seconds))
    assert wide.decode(3) == exact.decode(3)
    assert micro_batches(wide, 9, 5) == micro_batches(exact, 9, 5)


def test_pieces_of_prompts_are_those_of_costs_of_every_stage() -> None:
    exact, wide = learned([0.001, 0.003, 0.002], [1, 5, 20, 40], 0.05)
    assert prefill_chunk(wide, 3000, 256, 2048) == prefill_chunk(exact, 3000, 256, 2048)
    assert throttled(wide, 4, 3, 2.0, 2048) == throttled(exact, 4, 3, 2.0, 2048)
