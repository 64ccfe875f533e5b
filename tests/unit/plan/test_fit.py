"""Curves from measured times: exact where the times are, near where they scatter, never negative."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.plan.fit import PREFILL, WIDTHS, Measured, curves, emulated, fit_line
from nova.plan.profiles import PROFILES, Profile
from nova.wire.plans import Points

DEPTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
seconds = st.floats(1e-6, 10.0)


@given(st.floats(0.0, 0.1), seconds, st.integers(2, len(DEPTHS)))
def test_times_on_a_line_give_that_line(fixed: float, slope: float, count: int) -> None:
    points = [(x, fixed + slope * x) for x in DEPTHS[:count]]
    found, steepness = fit_line(points)
    assert found == pytest.approx(fixed, abs=1e-6 * (fixed + slope))
    assert steepness == pytest.approx(slope, rel=1e-4)


@given(st.lists(st.tuples(st.floats(0.01, 100.0), seconds), min_size=1, max_size=8))
def test_nothing_that_is_fitted_is_negative(points: list[tuple[float, float]]) -> None:
    fixed, slope = fit_line(points)
    assert fixed >= 0
    assert slope >= 0
    assert fixed + slope > 0


@pytest.mark.parametrize("bad", range(1, len(DEPTHS)))
@pytest.mark.parametrize("times", [1.2, 1.5, 3.0, 10.0])
def test_one_point_from_a_bad_moment_does_not_move_the_line(bad: int, times: float) -> None:
    points = [(x, (0.001 + 0.002 * x) * (times if place == bad else 1.0)) for place, x in enumerate(DEPTHS)]
    assert fit_line(points) == pytest.approx((0.001, 0.002), rel=0.02)


@given(st.integers(0, 2**32))
def test_times_that_scatter_give_nearly_the_line(seed: int) -> None:
    scatter = random.Random(seed)
    fixed, slope = fit_line([(x, (0.001 + 0.002 * x) * scatter.uniform(0.98, 1.02)) for x in DEPTHS])
    assert max(abs((fixed + slope * x) / (0.001 + 0.002 * x) - 1) for x in DEPTHS) < 0.04


def test_times_that_would_need_a_negative_fixed_cost_go_through_zero() -> None:
    fixed, slope = fit_line([(1.0, 1.0), (2.0, 2.2), (4.0, 4.6)])
    assert fixed == 0.0
    assert 1.0 < slope < 1.15


def test_one_depth_alone_has_no_fixed_cost() -> None:
    assert fit_line([(2.0, 0.5)]) == (0.0, 0.25)


def test_rows_and_pieces_are_per_mean_layer_and_without_the_fixed_cost() -> None:
    measured = Measured(
        depths=[(x, 0.001 + 0.002 * x) for x in (0.5, 1.0, 2.0, 4.0)],
        depth=4.0,
        rows=[(1, 0.009), (2, 0.013), (8, 0.021)],
        piece_depth=2.0,
        pieces=[(64, 0.101), (256, 0.401)],
        head=[(1, 0.004), (8, -0.001)],
    )
    fixed, layer, head = curves(measured)
    assert fixed == pytest.approx(0.001)
    assert [n for n, _ in layer] == [1, 2, 8, 64, 256]
    assert [each for _, each in layer] == pytest.approx([0.002, 0.003, 0.005, 0.05, 0.2])
    assert head == [(1, 0.004), (8, 0.0)]


def between(points: Points, n: int) -> float:
    """As `nova.wire.plans` says that a curve is read."""
    upper = next((place for place, (width, _) in enumerate(points) if width >= n), len(points) - 1)
    (a, low), (b, high) = points[max(upper, 1) - 1], points[max(upper, 1)]
    return low + (high - low) * (n - a) / (b - a)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_an_emulated_model_s_curve_is_its_own_at_every_width(profile: Profile) -> None:
    found = emulated("n", profile, 123)
    assert (found.memory_bytes, found.fixed_s) == (123, 0.0)
    assert {*WIDTHS, *PREFILL} <= {n for n, _ in found.layer_s}
    total = profile.position_ms(0, profile.layers) / 1000
    for n in (*range(1, 40), 64, 100, 333, 512, 2000):
        assert between(found.layer_s, n) * profile.layers == pytest.approx(total * profile.width_factor(n))
