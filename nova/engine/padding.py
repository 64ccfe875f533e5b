"""What the batch of a group of texts takes, and how much of it may be padding. Pure.

A batch pads its rows to the longest: one text of 8000 positions with seven of 50 takes, and reads in every step, what
eight of 8000 do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nova.wire.rows import MAX_ROWS

STEP = 256
"""Positions by which mlx_lm's caches grow. Each text counts with one more, which it may have as room."""

WASTE = 2
"""A batch takes at most so many times what its members would alone,"""

SLACK = 1024
"""and so many positions more: a few short texts are not worth a chunk of their own."""


class Size(NamedTuple):
    """What the batch of a group takes, in positions: `rows` of `longest`, and `alone` without the padding.

    As all members grow by as much in each step, a batch within its bound stays so.
    """

    rows: int = 0
    longest: int = 0
    alone: int = 0

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Size:
        positions = [length + STEP for length in lengths]
        return cls(len(positions), max(positions, default=0), sum(positions))

    def plus(self, length: int) -> Size:
        positions = length + STEP
        return Size(self.rows + 1, max(self.longest, positions), self.alone + positions)

    @property
    def excess(self) -> int:
        """Positions over the bound, 0 within."""
        return max(self.rows * self.longest - WASTE * self.alone - SLACK, 0)

    def takes(self, length: int, rows: int = MAX_ROWS) -> bool:
        """Whether such a text can join, so that there are at most so many rows."""
        return self.rows < rows and not self.plus(length).excess
