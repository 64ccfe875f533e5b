"""The most probable tokens without the probabilities: a logarithm of sums over the vocabulary is most of sampling's
time on a CPU (2.8 ms of 4 rows of 49152 logits, beside 0.2 ms for their maxima).
"""

from __future__ import annotations

from math import inf, log
from typing import cast

import mlx.core as mx

ABOVE = 1.1
"""Times the logarithm of the vocabulary's size: what a maximum must be at least."""


def most_probable(logits: mx.array) -> list[int] | None:
    """The token of each row of `logits` [rows, vocab] that has the highest log-probability as mlx-lm computes it, of
    ties the lowest id; None where the logits alone do not tell. Evaluates.

    mlx-lm takes the maximum of fl(x - L), where L is the row's logsumexp, and a subtraction may round several logits to
    one. The highest logit m is at least L - log(vocab), so L < 2 m once m is above log(vocab), with a margin for the
    rounding of L. By Sterbenz's lemma x - L is then exact for all x from L / 2 to m, and what is below L / 2 comes out
    lower than all of them: the order of the highest is that of the logits.
    """
    tokens = mx.argmax(logits, axis=-1, keepdims=True)
    peaks = mx.take_along_axis(logits, tokens, axis=-1)
    mx.eval(tokens, peaks)
    least = ABOVE * log(logits.shape[-1])
    if all(least <= peak < inf for peak in cast("list[float]", peaks.reshape(-1).tolist())):
        return cast("list[int]", tokens.reshape(-1).tolist())
    return None
