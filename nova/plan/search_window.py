"""Minima of sliding windows, for many columns at once. Pure."""

from __future__ import annotations

import numpy as np

from nova.plan.search_instance import Floats, Ints


def after(values: Floats, upto: Ints) -> Floats:
    """[k, column] -> the least of `values` at k + 1 .. upto[k], inf where that is nothing. `upto` never falls."""
    size = len(upto)
    rows = np.arange(size)
    least = np.full_like(values, np.inf)
    spans = upto - rows
    if (upto == size - 1).all():
        least[:-1] = np.minimum.accumulate(values[:0:-1], axis=0)[::-1]
        return least
    level, width = values, 1
    """level[k]: the least of `width` values from k on."""
    while width <= spans.max():
        now = rows[(spans >= width) & (spans < 2 * width)]
        least[now] = np.minimum(level[now + 1], level[upto[now] - width + 1])
        level = np.minimum(level[:-width], level[width:])
        width *= 2
    return least


def before(values: Floats, upto: Ints) -> Floats:
    """[l, column] -> the least of `values` at those k below l with upto[k] >= l, inf where there is none."""
    size = len(upto)
    lowest = np.minimum(np.searchsorted(upto, np.arange(size)), np.arange(size))
    return after(values[::-1], size - 1 - lowest[::-1])[::-1]
