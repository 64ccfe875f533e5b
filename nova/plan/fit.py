"""From the times of chunks through a few layers to a node's curves. Pure.

What a chunk takes on a stage is taken for a line over its number of layers: a fixed cost for being a chunk, and a cost
for each layer. Layers count in mean ones, by the bytes that they read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from nova.plan.profiles import Profile
from nova.wire.plans import NodeProfile, Points

PREFILL = (64, 256, 512)
"""Positions of the pieces of a prompt that profiles have, beside widths 1 to 8."""
WIDTHS = range(1, 9)

PASSES = 20
HUBER = 1.345
"""In standard deviations: errors above it count in proportion and no longer squared. 95 % as efficient as least
squares where errors are normal (Huber, Robust Statistics, 1981)."""
DEVIATION = 1.4826
"""Standard deviations in a median absolute deviation, where errors are normal."""
EXACT = 1e-3
"""Relative error that is never held against a point."""


@dataclass(frozen=True)
class Measured:
    """Seconds of chunks. `depths` are of one position through so many mean layers, `rows` of so many rows of one
    position through `depth` mean layers, `pieces` of one row of so many positions through `piece_depth` of them;
    `head` is what the head adds at so many rows."""

    depths: Sequence[tuple[float, float]]
    depth: float
    rows: Points
    piece_depth: float
    pieces: Points
    head: Points


def curves(measured: Measured) -> tuple[float, Points, Points]:
    """`fixed_s`, `layer_s` and `head_s` of a NodeProfile."""
    fixed, _ = fit_line(measured.depths)  # the slope is not taken: rows went through more layers, and more often
    layer = [(n, max(0.0, seconds - fixed) / measured.depth) for n, seconds in measured.rows]
    layer += [(n, max(0.0, seconds - fixed) / measured.piece_depth) for n, seconds in measured.pieces]
    return fixed, layer, [(n, max(0.0, seconds)) for n, seconds in measured.head]


def fit_line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(fixed, slope), neither negative, such that fixed + slope * x is near y > 0 for most of the points (x > 0, y).

    Huber's estimator of relative errors: times scatter in proportion to themselves, and one disturbed point among
    several moves the line little. A single point has no fixed cost.
    """
    trust = [1.0] * len(points)
    fixed, slope = _least_squares(points, trust)
    for _ in range(PASSES):
        errors = [abs(fixed + slope * x - y) / y for x, y in points]
        bound = max(EXACT, HUBER * DEVIATION * median(errors))
        trust = [min(1.0, bound / error) if error else 1.0 for error in errors]
        fixed, slope = _least_squares(points, trust)
    return fixed, slope


def _least_squares(points: Sequence[tuple[float, float]], trust: Sequence[float]) -> tuple[float, float]:
    """The best line with two parameters that are not negative: the free one, or the better one with a zero."""
    weighted = [(share / y**2, x, y) for share, (x, y) in zip(trust, points, strict=True)]
    total = sum(w for w, _, _ in weighted)
    mean_x = sum(w * x for w, x, _ in weighted) / total
    mean_y = sum(w * y for w, _, y in weighted) / total
    spread = sum(w * (x - mean_x) ** 2 for w, x, _ in weighted)
    if spread > 0:
        slope = sum(w * (x - mean_x) * (y - mean_y) for w, x, y in weighted) / spread
        fixed = mean_y - slope * mean_x
        if fixed >= 0 and slope >= 0:
            return fixed, slope
        if slope < 0:
            return mean_y, 0.0
    return 0.0, sum(w * x * y for w, x, y in weighted) / sum(w * x * x for w, x, _ in weighted)


def emulated(name: str, profile: Profile, memory_bytes: int) -> NodeProfile:
    """The exact curves of an emulated model: a mean layer's times at every width where their slope changes."""
    mean = profile.position_ms(0, profile.layers) / profile.layers / 1000
    widths = sorted({*WIDTHS, *(width for width, _ in profile.widths), *PREFILL})
    layer = [(width, mean * profile.width_factor(width)) for width in widths]
    return NodeProfile(name, memory_bytes, 0.0, layer, [(1, 0.0)], f"emulated: {profile.source}")
