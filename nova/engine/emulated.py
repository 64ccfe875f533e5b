"""A stage whose arithmetic is a timed wait; everything round it is the real thing. See `nova.plan.profiles`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import mlx.core as mx

from nova.plan.profiles import VOCABULARY, Profile

LEARN = 0.25
"""How much of one awakening's delay is taken over; slow enough that one busy moment of the machine is not learnt."""
LATE_S = 0.002
"""A delay above this is a busy moment and not the machine's way: it is taken for this long."""

TEXT = b" All work and no play makes a pipeline wait."


class Positions:
    """A cache that holds only how many positions it has seen, with the methods of mlx_lm's `KVCache`."""

    nbytes = 0

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset

    @property
    def state(self) -> tuple[int]:
        return (self.offset,)

    @state.setter
    def state(self, value: tuple[int]) -> None:
        (self.offset,) = value

    def advance(self, positions: int) -> list[int]:
        """The end of each row, once it has seen so many more positions."""
        self.offset += positions
        return [self.offset]

    def size(self) -> int:
        return self.offset

    def empty(self) -> bool:
        return self.offset == 0

    def is_trimmable(self) -> bool:
        return True

    def trim(self, positions: int) -> int:
        """Forget the last ones; how many that were."""
        cut = min(self.offset, positions)
        self.offset -= cut
        return cut

    @classmethod
    def merge(cls, caches: Sequence[Positions]) -> BatchPositions:
        return BatchPositions.merge(caches)


class BatchPositions:
    """The same for several rows, with the methods of mlx_lm's `BatchKVCache`. `offset` has one entry per row."""

    nbytes = 0

    def __init__(self, offset: Iterable[int]) -> None:
        self.offset = tuple(offset)

    @property
    def state(self) -> tuple[tuple[int, ...]]:
        return (self.offset,)

    @state.setter
    def state(self, value: tuple[tuple[int, ...]]) -> None:
        (self.offset,) = value

    def advance(self, positions: int) -> list[int]:
        """The end of each row, once it has seen so many more positions."""
        self.offset = tuple(end + positions for end in self.offset)
        return list(self.offset)

    def size(self) -> int:
        return max(self.offset, default=0)

    def empty(self) -> bool:
        return self.size() == 0

    def is_trimmable(self) -> bool:
        return True

    def trim(self, positions: int) -> int:
        """Forget the last ones of every row; how many that were of the longest."""
        cut = min(self.size(), positions)
        self.offset = tuple(end - cut for end in self.offset)
        return cut

    @classmethod
    def merge(cls, caches: Sequence[Positions]) -> BatchPositions:
        return cls(cache.offset for cache in caches)

    def filter(self, batch_indices: mx.array | Iterable[int]) -> None:
        """Keep these rows, in this order."""
        self.offset = tuple(self.offset[int(index)] for index in batch_indices)

    def extend(self, other: BatchPositions) -> None:
        """Add the rows of `other` behind these."""
        self.offset += other.offset

    def extract(self, idx: int) -> Positions:
        return Positions(self.offset[idx])


class EmulatedStage:
    """The same methods as `nova.model.stage.StageModel`; its cache counts the positions it has seen."""

    weight_bytes = 0

    def __init__(self, profile: Profile, first_layer: int, last_layer: int) -> None:
        self._profile = profile
        self._position_s = profile.position_ms(first_layer, last_layer) / 1000
        self._late = 0.0
        self._ends: list[int] = []
        self._letters = mx.eye(VOCABULARY)[mx.array(list(TEXT))]
        """Logits of each letter of the text."""

    def make_cache(self) -> list[Positions]:
        return [Positions()]

    def embed(self, tokens: mx.array) -> mx.array:
        """Token ids [rows, n] to a hidden state [rows, n, hidden] in bfloat16, all zeros."""
        rows, width = tokens.shape
        return mx.zeros((rows, width, self._profile.hidden), mx.bfloat16)

    def run(self, h: mx.array, cache: Sequence[Positions | BatchPositions]) -> mx.array:
        """`h` as it came, after this stage's time for so many positions."""
        begun = time.perf_counter()
        mx.eval(h)  # what the embedding takes is a part of the stage's time
        rows, width, _ = h.shape
        self._wait(begun + self._position_s * self._profile.width_factor(rows * width))
        self._ends = cache[0].advance(width)
        return h

    def norm(self, h: mx.array) -> mx.array:
        return h

    def head(self, h: mx.array) -> mx.array:
        """Logits [rows, n, VOCABULARY] of the last n positions of the rows that were run last: at each position the
        letter that a sentence has there, so that a text does not depend on what was computed beside it."""
        rows, width, _ = h.shape
        letters = [[(end - width + i) % len(TEXT) for i in range(width)] for end in self._ends[:rows]]
        return self._letters[mx.array(letters)]

    def _wait(self, until: float) -> None:
        # A sleeper wakes up late, by a time of the machine's and not of the stage's: learn it and start earlier.
        left = until - time.perf_counter()
        if left > 0:
            time.sleep(left - min(self._late, left / 2))
            late = time.perf_counter() - until
            self._late = max(0.0, self._late + LEARN * min(late, LATE_S))
