"""Pauses that double, and never overflow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nova.coordinator.pause import Pause, doubled


@given(st.integers(0, 10_000), st.floats(0.01, 100.0), st.floats(1.0, 1e6))
def test_a_pause_never_shrinks_with_failures_and_never_exceeds_its_limit(
    times: int, first_s: float, factor: float
) -> None:
    longest_s = first_s * factor
    here, after = (doubled(first_s, each, longest_s) for each in (times, times + 1))
    assert first_s <= here <= after <= longest_s


def test_what_was_tried_again_early_still_counts_its_failures() -> None:
    pause = Pause(1.0, 60.0)
    pause.failed(10.0)
    pause.cut(10.5)
    assert pause.until == 10.5
    pause.failed(10.5)
    assert pause.until == 12.5
