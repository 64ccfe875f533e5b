"""Times of chunks through the last layers of a model, on the way that they take through an engine's loop.

Layers, caches and batches are the engine's own. Steps of all sizes take turns, so that a busy moment of the machine
falls on all of them, and between two runs of few layers many others pass through the CPU's caches.
"""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle

import mlx.core as mx

from nova.clock import Deadline
from nova.engine.caches import Caches, Run
from nova.engine.greedy import most_probable
from nova.model.stage import StageModel
from nova.plan.fit import PREFILL, WIDTHS
from nova.wire.plans import Points
from nova.wire.rows import RowHead
from nova.wire.tensor import Flags, Header, Kind, layout

STEP_SHARE = 0.01
"""Of the time there is: what a step of eight rows may take, or fewer layers are run, but two anyway."""
PIECE_LAYERS = 2
"""Pieces of a prompt run through so many: long ones cost seconds."""
PIECE_SHARE = 0.3
"""Of the time there is, for all pieces."""
PIECE_REPEATS = 3
FILL_SHARE = 0.15
"""Of the time there is, for the text that the steps have behind them."""
MOST_ROUNDS = 30
SPARSE = frozenset({1, 2, 4, 8})
"""Rows that are run even if there is no time left."""

MOST_ROWS = WIDTHS[-1]
SOURCE = 1
"""The stream whose text all steps go on from."""
TOGETHER, AT_HEAD = 1, 2
"""Groups: of rows through all layers, and of rows through one layer and the head."""
SEED = 5


class Bench:
    """`stage` owns the head. It is over about at `deadline`, once the sizes that every profile has were run."""

    def __init__(self, stage: StageModel, deadline: Deadline) -> None:
        self._stage = stage
        self._deadline = deadline
        self._time_s = deadline.remaining()
        self._runs = {depth: _through(stage, depth) for depth in range(1, len(stage.layers) + 1)}
        # Unlike each other, so that rows choose different experts.
        noise = mx.random.normal((PREFILL[-1], stage.hidden_size), key=mx.random.key(SEED))
        self._hidden = noise.astype(getattr(mx, stage.dtype))
        self._samples: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._streams = SOURCE
        self._behind: dict[int, int] = {}
        """Positions of each stream."""
        self._caches = Caches(stage.make_cache)
        self.depth, slowest = self._affordable(len(stage.layers))
        self._caches = Caches(lambda: stage.make_cache()[: self.depth])
        self.piece_depth = min(PIECE_LAYERS, self.depth)
        self._pieces(slowest * self.piece_depth / MOST_ROWS)
        self.context = self._fill()
        self.rounds = self._all_rounds()

    def times(self, what: str) -> Points:
        """Seconds by size, the lower quartile, as what disturbs a step only makes it longer: "rows" through
        `depth` layers, "piece" through `piece_depth`, "depth" of one row through so many layers, rows through one layer
        and the "head", and "headless"."""
        return [(size, sorted(times)[len(times) // 4]) for size, times in sorted(self._samples[what].items())]

    # --- the parts --------------------------------------------------------------------------------------------------

    def _affordable(self, most: int) -> tuple[int, float]:
        """How many layers the steps run through, a power of two, and what one takes for the most rows."""
        streams = self._new(MOST_ROWS)
        seconds = [self._chunk(streams, 1, group=TOGETHER) for _ in range(3)]
        layer = min(seconds)
        depth = 1
        while depth * 2 <= most and (depth == 1 or 2 * depth * layer <= STEP_SHARE * self._time_s):
            depth *= 2
        return depth, layer

    def _pieces(self, position_s: float) -> None:
        """Pieces of a prompt, as long as there is time for. `position_s` is what a position takes at most."""
        share = Deadline.after(PIECE_SHARE * self._time_s)
        for width in PREFILL:
            for _ in range(PIECE_REPEATS):
                if width * position_s > share.remaining():
                    break
                seconds = self._sample("piece", width, self._new(1), self.piece_depth, width)
                position_s = seconds / width

    def _fill(self) -> int:
        """The text behind all steps: the longest of the pieces that there is time for. How long it is."""
        factor = self.depth / self.piece_depth
        fitting = [width for width, seconds in self.times("piece") if seconds * factor <= FILL_SHARE * self._time_s]
        width = max(fitting, default=MOST_ROWS)
        self._chunk([SOURCE], self.depth, width)
        return width

    def _all_rounds(self) -> int:
        """As many as there is time for; how many that were."""
        rounds, longest = 0, 0.0
        while rounds == 0 or (rounds < MOST_ROUNDS and self._deadline.remaining() > longest):
            begun = time.monotonic()
            self._round()
            longest = max(longest, time.monotonic() - begun)
            rounds += 1
        return rounds

    def _round(self) -> None:
        """Every size a few times. A first step behind the text, and behind a row's leaving, pays for moving caches,
        and is not measured. What runs through few layers comes behind a step through all: none finds its weights in
        the CPU's caches because it has just run."""
        depths = [1 << power for power in range(self.depth.bit_length())]
        alone = dict(zip(depths, ([stream] for stream in self._new(len(depths))), strict=True))
        for depth in depths:
            self._chunk(alone[depth], depth)
            self._sample("depth", depth, alone[depth], depth)
        rows, at_head = self._new(MOST_ROWS), self._new(MOST_ROWS)
        turn = cycle(depths)
        for count in reversed(WIDTHS):
            if self._deadline.expired and count not in SPARSE:
                continue
            self._drop([*rows[count:], *at_head[count:]])
            del rows[count:], at_head[count:]
            self._chunk(at_head, 1, group=AT_HEAD, head=True)
            self._chunk(rows, self.depth, group=TOGETHER)
            depth = next(turn)
            self._sample("depth", depth, alone[depth], depth)
            self._sample("rows", count, rows, self.depth, group=TOGETHER)
            self._sample("headless", count, at_head, 1, group=AT_HEAD)
            self._sample("rows", count, rows, self.depth, group=TOGETHER)
            self._sample("head", count, at_head, 1, group=AT_HEAD, head=True)
        self._drop([*rows, *at_head, *(stream for one in alone.values() for stream in one)])

    # --- a chunk ----------------------------------------------------------------------------------------------------

    def _sample(
        self,
        what: str,
        size: int,
        streams: Sequence[int],
        depth: int,
        width: int = 1,
        group: int = 0,
        head: bool = False,
    ) -> float:
        seconds = self._chunk(streams, depth, width, group, head)
        self._samples[what][size].append(seconds)
        return seconds

    def _chunk(self, streams: Sequence[int], depth: int, width: int = 1, group: int = 0, head: bool = False) -> float:
        """Seconds of one chunk. A stream that is new goes on from the source, once that is filled."""
        count, size = len(streams), self._stage.hidden_size
        hidden = mx.contiguous(self._hidden[: count * width].reshape(count, width, size))
        mx.eval(hidden)
        header = Header(
            layout(Kind.HIDDEN, Flags.NONE, width, self._stage.dtype, (count, width, size)),
            tuple(self._row(stream) for stream in streams),
            group,
        )
        begun = time.perf_counter()
        out = self._caches.run(header, hidden, self._runs[depth])
        if head:
            most_probable(self._stage.head(out)[:, -1, :])
        else:
            mx.eval(out)
        seconds = time.perf_counter() - begun
        for row in header.rows:
            self._behind[row.stream] = row.position + width
        return seconds

    def _row(self, stream: int) -> RowHead:
        if stream in self._behind:
            return RowHead(stream, self._behind[stream])
        source = SOURCE if SOURCE in self._behind else 0
        return RowHead(stream, self._behind.get(SOURCE, 0), first=True, source=source)

    def _new(self, count: int) -> list[int]:
        first = self._streams + 1
        self._streams += count
        return list(range(first, first + count))

    def _drop(self, streams: Sequence[int]) -> None:
        self._caches.drop(streams)


def _through(stage: StageModel, depth: int) -> Run:
    """The first layers of the stage, whose caches the others' may follow."""
    part = copy.copy(stage)
    part.layers = stage.layers[:depth]
    return lambda hidden, cache: part.run(hidden, cache[:depth])
