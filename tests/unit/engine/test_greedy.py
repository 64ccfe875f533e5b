"""Greedy tokens from logits alone are those of mlx-lm's log-probabilities, or they are not told."""

from __future__ import annotations

from math import inf, log
from typing import cast

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova.engine.greedy import ABOVE, most_probable

ROWS, VOCAB = 3, 50


def by_logprobs(logits: mx.array) -> list[int]:
    found = mx.argmax(logits - mx.logsumexp(logits, axis=-1, keepdims=True), axis=-1)
    return cast("list[int]", found.tolist())


@given(
    st.integers(0, 2**32),
    st.floats(-5, 80),
    st.sampled_from([0.001, 0.05, 1.0, 10.0]),
    st.sampled_from([mx.float32, mx.float16, mx.bfloat16]),
)
@settings(max_examples=300)
def test_what_is_told_is_what_the_log_probabilities_say(
    seed: int, middle: float, spread: float, dtype: mx.Dtype
) -> None:
    """Little spread makes many near ties, which a subtraction may round to one."""
    logits = (middle + spread * mx.random.normal((ROWS, VOCAB), key=mx.random.key(seed))).astype(dtype)
    told = most_probable(logits)
    if told is not None:
        assert told == by_logprobs(logits)
    else:
        highest = cast("list[float]", mx.max(logits, axis=-1).astype(mx.float32).tolist())
        assert min(highest) < ABOVE * log(VOCAB)


def test_logits_that_a_subtraction_rounds_to_one_are_not_told() -> None:
    logits = mx.array([[1.0, 1.0 + 2**-23] + [-20.0] * 2, [1.0, 30.0, 0.0, 0.0]])
    assert most_probable(logits) is None
    assert most_probable(logits[1:]) == [1]


@pytest.mark.parametrize("peak", [inf, float("nan")])
def test_no_token_is_told_of_what_is_not_finite(peak: float) -> None:
    assert most_probable(mx.array([[1.0, peak, 3.0]])) is None


def test_of_ties_the_lowest_id_is_told() -> None:
    assert most_probable(mx.array([[20.0, 31.5, 31.5]])) == [1]
