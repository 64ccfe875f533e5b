"""What a chunk costs on each stage, learned from the chunks that went by, and the decisions that follow. Pure.

T_i(n) is the seconds that stage i computes a chunk of n positions. Decode chunks (rows of one token, each with caches
of its own) and prefill chunks (one row of many tokens) have different curves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import ceil

from nova.plan.curve import Curve, guess

TIE = 0.01
"""What estimates cannot tell apart: then fewer chunks."""
GAIN = 0.03
"""Groups are divided anew for more than this, as that moves caches."""
HOPE = 1 / 3
"""Share of the known slope that larger groups than any seen are thought to cost: so those that may be better are tried,
and then measured."""
SMALLEST_PIECE = 32
"""Tokens; of smaller pieces the stages' overlap gains little, and their times do not show what sending costs."""
CERTAIN = 3
"""Decode chunks of a size that tell what it costs. Groups make more steps than that before they are divided anew."""
LEAST_PREFILL = 3
"""Tokens of a prompt that go round in each cycle, however slow they make the others. On every profile of
`nova.plan.profiles` three positions take at most 1.9 times one, so that over two stages or more tokens still come at
half their pace."""
MARGIN = 0.9
"""Share of the allowed time between tokens that prefill is planned into; the rest is for what estimates miss."""


class Costs:
    """The curves of a pipeline of so many stages."""

    def __init__(self, stages: int) -> None:
        self.stages = stages
        self._decode = Curve(CERTAIN)
        self._prefill = Curve()

    @property
    def known(self) -> bool:
        return bool(self._decode or self._prefill)

    @property
    def prefill_widths(self) -> int:
        """Widths of prefill chunks whose cost is known."""
        return len(self._prefill)

    @property
    def widest_prefill(self) -> float:
        return self._prefill.widest

    def saw(self, prefill: bool, positions: int, seconds: Sequence[float], disturbed: bool = False) -> None:
        """A chunk of so many positions (rows times width) took so many seconds on each stage. A decode chunk is
        `disturbed` that had a prefill chunk beside it, as stages on one machine take memory bandwidth from each other,
        or before which the caches of its group were merged."""
        (self._prefill if prefill else self._decode).saw(positions, tuple(seconds), disturbed and not prefill)

    def decode(self, rows: int, share: float = 1.0) -> list[float]:
        """T_i of a decode chunk. `share` of the slope known is taken for sizes larger than any that was seen."""
        return self._at(rows, self._decode, self._prefill, share)

    def prefill(self, width: int) -> list[float]:
        return self._at(width, self._prefill, self._decode)

    def _at(self, positions: int, curve: Curve, other: Curve, share: float = 1.0) -> list[float]:
        """From the other kind's curve where this kind has none, so that the two stay comparable."""
        known = curve or other
        return known.at(positions, share) if known else [guess(positions)] * self.stages


def decode_rate(costs: Costs, streams: int, groups: int) -> float:
    """Tokens per second of so many streams in so many groups, as even as can be, that follow each other."""
    base, larger = divmod(streams, groups)
    small, large = costs.decode(max(base, 1), HOPE), costs.decode(base + (larger > 0), HOPE)
    return streams / max(sum(large), larger * max(large) + (groups - larger) * max(small))


def micro_batches(costs: Costs, streams: int, most: int, present: int = 0) -> int:
    """Into how many groups, 1 to `most`, the decoding streams are best divided.

    Fewer are preferred where it is all the same, and `present` (0 for none) unless another gains over 3 %. With
    nothing measured, one per stage.
    """
    most = min(streams, most)
    if not costs.known:
        return min(most, costs.stages)
    rates = {groups: decode_rate(costs, streams, groups) for groups in range(1, most + 1)}
    best = max(rates.values())
    enough = rates[present] if present in rates and rates[present] * (1 + GAIN) >= best else best / (1 + TIE)
    return next(groups for groups, rate in rates.items() if rate >= enough)


def prefill_chunk(costs: Costs, tokens: int, least: int, most: int) -> int:
    """The size of a prompt's pieces: the one that has it through all stages first.

    C pieces of c tokens take sum_i T_i(c) + (C - 1) max_i T_i(c). A prompt below `least` tokens goes in one piece, if
    it is not over `most`, which no piece is. Pieces are about equal, but over a single stage they are of `most`.
    """
    if tokens < least or costs.stages == 1:
        return min(tokens, most)
    sizes: dict[int, float] = {}
    pieces = ceil(tokens / most)
    while not sizes or ceil(tokens / pieces) >= SMALLEST_PIECE:
        size = ceil(tokens / pieces)
        stages = costs.prefill(size)
        sizes[size] = sum(stages) + (ceil(tokens / size) - 1) * max(stages)
        pieces += 1 + pieces // 16
    soonest = min(sizes.values())
    best = next(size for size, seconds in sizes.items() if seconds <= soonest * (1 + TIE))  # the largest of equals
    # One width alone does not tell what a piece costs for being one: the next prompt's are twice as large.
    return min(2 * best, tokens, most) if costs.prefill_widths == 1 else best


def throttled(costs: Costs, rows: int, groups: int, factor: float, most: int) -> int:
    """The most tokens of a prefill chunk, one in each cycle of the decode groups, with which the time between tokens
    stays within `factor` of what it is without; but LEAST_PREFILL anyway.

    `rows` is the size of the largest of the `groups`. Every stage computes all groups and one such chunk in a cycle;
    and a group behind such a chunk follows it through all stages. Nothing over twice the widest chunk ever seen is
    ventured.
    """
    decode = costs.decode(rows)
    slowest = max(decode)
    limit = MARGIN * factor * max(sum(decode), groups * slowest)

    def too_long(width: int) -> bool:
        prefill = costs.prefill(width)
        return max(sum(prefill) + slowest, groups * slowest + max(prefill)) > limit

    most = min(most, max(LEAST_PREFILL, int(2 * costs.widest_prefill)))
    widths = range(LEAST_PREFILL + 1, most + 1)
    return min(most, LEAST_PREFILL + bisect_left(widths, True, key=too_long))
