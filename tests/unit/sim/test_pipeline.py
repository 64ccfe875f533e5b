"""Chunks over stages and links in a row: the vectorised recursion is the plain one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.sim.pipeline import Pipeline
from tests.unit.sim.lines import line

times = st.floats(0.001, 1.0)
sends = st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.integers(1, 9)), min_size=1, max_size=20)


@given(st.lists(times, min_size=1, max_size=9), st.floats(0, 0.5), st.floats(0, 0.5), sends)
def test_every_stage_and_link_takes_chunks_in_order_and_as_soon_as_it_can(
    seconds: list[float], hop: float, transfer: float, sends: list[tuple[float, bool, int]]
) -> None:
    one = line(seconds, 0.5, hop, transfer)
    pipeline = Pipeline(one)
    stages, links = [0.0] * len(seconds), [0.0] * len(seconds)
    for at, prefill, positions in sorted(sends):
        ready = at + (hop if len(seconds) > 1 else 0.0)
        ends = []
        for stage, each in enumerate(one.decode(positions)):
            ready = stages[stage] = max(ready, stages[stage]) + each
            ends.append(ready)
            ready = links[stage] = max(ready + hop, links[stage]) + transfer * positions
        passed = pipeline.send(at, prefill, positions)
        assert passed.done == pytest.approx(ends)
        assert passed.done - passed.start == pytest.approx(one.decode(positions))
        assert passed.landed == pytest.approx(ends[-1])


def test_what_a_dead_stage_had_not_computed_does_not_count() -> None:
    pipeline = Pipeline(line([1.0, 2.0, 4.0]))
    passed = pipeline.send(0.0, False, 1)
    pipeline.lost(2.0, passed)
    assert pipeline.busy.tolist() == pytest.approx([1.0, 1.0, 0.0])
