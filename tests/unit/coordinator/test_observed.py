"""What a token takes by stage and hop, from the steps that a plan's prediction is about."""

from __future__ import annotations

import pytest

from nova.coordinator.observed import STEPS, Observed
from nova.wire.work import ChunkTiming

MS = 1_000_000


def step(
    compute_ms: float = 30, hop_ms: float = 1, rows: int = 1, width: int = 1, prefill: bool = False
) -> ChunkTiming:
    """2 ms back to the first stage, so many in it, so many to the second, and 10 there."""
    received = 1 * MS + 2 * MS
    there = received + round((compute_ms + hop_ms) * MS)
    hops = [(received, 0, round(compute_ms * 1000)), (there, 0, 10_000)]
    return ChunkTiming([(row, 5) for row in range(rows)], width, prefill, 1 * MS, there + 10 * MS, hops)


def seen(*timings: ChunkTiming, generation: int = 1) -> Observed:
    observed = Observed()
    for timing in timings:
        observed.saw(generation, timing, [0, 0])
    return observed


def test_medians_are_known_from_enough_steps_on() -> None:
    steps = [step(compute_ms=30 + (index % 3)) for index in range(STEPS)]
    assert seen(*steps[1:]).medians is None
    medians = seen(*steps).medians
    assert medians is not None
    assert medians.stage_s == pytest.approx([0.031, 0.010])
    assert medians.hop_s == pytest.approx([0.001, 0.002])


@pytest.mark.parametrize("other", [step(rows=2), step(width=3), step(prefill=True)], ids=["rows", "width", "prefill"])
def test_other_chunks_do_not_count(other: ChunkTiming) -> None:
    assert seen(*[other] * (2 * STEPS)).medians is None


def test_another_generation_begins_anew_and_the_old_steps_are_forgotten() -> None:
    observed = seen(*[step(99)] * STEPS)
    observed.saw(2, step(), [0, 0])
    assert (observed.medians, observed.fresh) == (None, 1)
    for _ in range(STEPS):
        observed.saw(2, step(), [0, 0])
    assert observed.medians is not None
    assert observed.medians.stage_s[0] == pytest.approx(0.030)


def test_one_stage_has_no_hops_and_a_clock_that_is_off_makes_none_negative() -> None:
    alone = Observed()
    for _ in range(STEPS):
        alone.saw(1, ChunkTiming([(1, 5)], 1, False, 1, 9, [(2, 0, 3000)]), [0])
    assert alone.medians is not None
    assert (alone.medians.stage_s, alone.medians.hop_s) == ([0.003], [])
    skewed = Observed()
    for _ in range(STEPS):
        skewed.saw(1, step(), [0, 50 * MS])
    assert skewed.medians is not None
    assert skewed.medians.hop_s[0] == 0.0


def test_steps_are_fresh_until_they_are_used() -> None:
    observed = seen(*[step()] * STEPS)
    assert observed.fresh == STEPS
    observed.used()
    assert observed.fresh == 0
    assert observed.medians is not None
