"""What a chunk takes on each stage, over its number of positions, learned from the chunks that went by. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence

SAMPLES = 16
FORGOTTEN_AFTER = 2048
"""Chunks of a kind after which a size that was not seen again is no longer known: a figure from a bad minute is not
held against it for ever."""
FIXED_SHARE = 0.1
"""Neutral guess where nothing better is known: T(n) is proportional to 1 + 0.1 n."""


class Curve:
    """Seconds per stage over positions: the medians of what was seen, lines between them.

    A size that was seen less than `certain` times undisturbed counts for no more than the others would have it: its one
    sample may be that of a bad moment, and a size that looks bad is not tried again.
    """

    def __init__(self, certain: int = 1) -> None:
        self._certain = certain
        self._seen: dict[int, tuple[int, deque[tuple[int, Sequence[float]]]]] = {}
        """Bucket -> (when it was seen last, its samples), least recently seen first."""
        self._buckets: list[int] = []
        self._sizes: list[float] = []
        self._seconds: list[list[float]] = []
        self._count = 0
        self._disturbed: frozenset[int] = frozenset()
        """Buckets with nothing but a disturbed sample."""

    def __len__(self) -> int:
        """Points that are known."""
        return len(self._sizes)

    @property
    def widest(self) -> float:
        return self._sizes[-1] if self._sizes else 0.0

    def saw(self, positions: int, seconds: Sequence[float], disturbed: bool = False) -> None:
        """A `disturbed` sample stands in until there is another one."""
        self._count += 1
        bucket = _bucket(positions)
        _, samples = self._seen.pop(bucket, (0, deque(maxlen=SAMPLES)))
        if not samples or not disturbed:
            if bucket in self._disturbed:
                samples.clear()
            samples.append((positions, seconds))
            self._disturbed = self._disturbed | {bucket} if disturbed else self._disturbed - {bucket}
        self._seen[bucket] = (self._count, samples)
        self._drop(bucket)
        size = sum(size for size, _ in samples) / len(samples)
        medians = [_median(each) for each in zip(*(times for _, times in samples), strict=True)]
        if (len(samples) < self._certain or bucket in self._disturbed) and self._sizes:
            medians = list(map(min, medians, self.at(positions)))
        at = bisect_left(self._buckets, bucket)
        self._buckets.insert(at, bucket)
        self._sizes.insert(at, size)
        self._seconds.insert(at, medians)
        self._forget()

    def at(self, positions: int, share: float = 1.0) -> list[float]:
        """T_i(positions) of each stage; beyond what was seen with `share` of the slope there. There must be a point."""
        sizes, seconds = self._sizes, self._seconds
        above = bisect_right(sizes, positions)
        if above == 0 or len(sizes) == 1:  # nothing below, or a single point: its figures, in the neutral shape
            return [each * guess(positions) / guess(sizes[0]) for each in seconds[0]]
        if above < len(sizes):
            low, high = above - 1, above
            way = (positions - sizes[low]) / (sizes[high] - sizes[low])
            return [a + (b - a) * way for a, b in zip(seconds[low], seconds[high], strict=True)]
        # Above the last point: on along the chord from a point at most half as large, which noise tilts less than the
        # last two; not falling, and not steeper than proportional.
        top = len(sizes) - 1
        low = max(bisect_right(sizes, sizes[top] / 2) - 1, 0)
        run, further = sizes[top] - sizes[low], positions - sizes[top]
        slopes = (min(max((b - a) / run, 0), b / sizes[top]) for a, b in zip(seconds[low], seconds[top], strict=True))
        return [b + slope * share * further for b, slope in zip(seconds[top], slopes, strict=True)]

    def _forget(self) -> None:
        bucket, (when, _) = next(iter(self._seen.items()))
        if when < self._count - FORGOTTEN_AFTER:
            del self._seen[bucket]
            self._drop(bucket)

    def _drop(self, bucket: int) -> None:
        at = bisect_left(self._buckets, bucket)
        if at < len(self._buckets) and self._buckets[at] == bucket:
            del self._buckets[at], self._sizes[at], self._seconds[at]


def _bucket(positions: int) -> int:
    """Five significant bits: sizes up to 31 each for itself, larger ones with those at most 6 % off."""
    shift = max(positions.bit_length() - 5, 0)
    return positions >> shift << shift


def _median(values: Sequence[float]) -> float:
    """The lower one of two: a size's first run is slow when buffers and kernels are made for it."""
    return sorted(values)[(len(values) - 1) // 2]


def guess(positions: float) -> float:
    return 1 + FIXED_SHARE * positions
