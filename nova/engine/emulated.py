"""A stage whose arithmetic is a timed wait; everything round it is the real thing. See `nova.plan.profiles`."""

from __future__ import annotations

import time

import mlx.core as mx

from nova.plan.profiles import VOCABULARY, Profile

LEARN = 0.25
"""How much of one awakening's delay is taken over; slow enough that one busy moment of the machine is not learnt."""

TEXT = b"All work and no play makes a pipeline wait. "


class Positions:
    """A cache that holds only how many positions it has seen."""

    state: tuple[()] = ()

    def __init__(self) -> None:
        self.seen = 0


class EmulatedStage:
    """The same methods as `nova.model.stage.StageModel`; its cache counts the positions it has seen."""

    weight_bytes = 0

    def __init__(self, profile: Profile, first_layer: int) -> None:
        starts = [sum(profile.split[:stage]) for stage in range(len(profile.split))]
        self._seconds = profile.stage_ms[starts.index(first_layer)] / 1000
        self._hidden = profile.hidden
        self._late = 0.0
        self._letter = 0

    def make_cache(self) -> list[Positions]:
        return [Positions()]

    def embed(self, tokens: mx.array) -> mx.array:
        """Token ids [1, n] to a hidden state [1, n, hidden] in bfloat16, all zeros."""
        return mx.zeros((1, tokens.shape[1], self._hidden), mx.bfloat16)

    def run(self, h: mx.array, cache: list[Positions]) -> mx.array:
        """`h` as it came, after this stage's time."""
        # A sleeper wakes up late, by a time of the machine's and not of the stage's: learn it and start earlier.
        begun = time.perf_counter()
        time.sleep(self._seconds - self._late)
        late = time.perf_counter() - begun - self._seconds
        self._late = min(max(0.0, self._late + LEARN * late), self._seconds / 2)
        cache[0].seen += h.shape[1]
        return h

    def head(self, h: mx.array) -> mx.array:
        """Logits [1, n, VOCABULARY]: the letters of a sentence, one after the other."""
        token = TEXT[self._letter % len(TEXT)]
        self._letter += 1
        return mx.zeros((1, h.shape[1], VOCABULARY)).at[..., token].add(1.0)
