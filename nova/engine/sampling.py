"""From logits to tokens: penalties, bias and grammar of each request, then mlx-lm's samplers.

A token depends on its logits, the request's parameters, and (seed, absolute position) only: so the text is the same
alone and in a batch, and on one node and on three.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import (
    make_frequency_penalty,
    make_logits_processors,
    make_presence_penalty,
    make_repetition_penalty,
    make_sampler,
)
from numpy.typing import NDArray

from nova.engine.grammar import Matcher
from nova.engine.greedy import most_probable
from nova.wire.work import Sampling, TokenLogprob

Processor = Callable[[mx.array, mx.array], mx.array]
"""mlx-lm's: (tokens, logits [1, vocab]) to logits [1, vocab]."""

BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "top_k": (0, 2**31 - 1),
    "repetition_penalty": (0.01, 100),
    "repetition_context": (0, 2**31 - 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "logprobs": (-1, 100),
}
"""Least and greatest value of each parameter. The penalties' and the bias's are those of OpenAI's API; the others keep
float16 from overflowing and an answer from growing without bound."""

BIAS = (-100.0, 100.0)

GREEDY_BELOW = 1e-3
"""A temperature below it is greedy. The most probable of 2**20 tokens has a log-probability of at least -14; divided
by much less than this it is minus infinity in float16, and with it every token."""

_LEAST_TOP_P = 1e-6
"""mlx-lm takes 0 for "no nucleus"; the smallest one is the most probable token alone."""

_ALL = 2**31 - 1
"""The context of a penalty that looks at all tokens it is given; MLX slices with 32 bits."""


class Sampler:
    """One request's parameters, and what its penalties and its grammar know of its tokens."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], matcher: Matcher | None = None) -> None:
        """`matcher` is where the text stands in its grammar. Raises ValueError for a parameter outside BOUNDS. What
        the vocabulary lacks is not an error: biases and penalties pass it over, and top_k then takes all."""
        _check(sampling)
        self.sampling = sampling
        self.matcher = matcher
        self.greedy = sampling.temperature < GREEDY_BELOW
        self._recent: deque[int] = deque(prompt, maxlen=sampling.repetition_context)
        self._generated: list[int] = []
        self._penalties = self._made_penalties()
        self._bias: list[Processor] = []
        self._draw: Callable[[mx.array], mx.array] | None = None

    @property
    def shapes(self) -> bool:
        """Whether `shaped` can change anything."""
        return bool(self.matcher or self._penalties or self.sampling.logit_bias)

    def accept(self, token: int) -> None:
        """The token was committed: penalties and the grammar know of it from here on. Raises EngineError for a token
        that the grammar forbids."""
        self._recent.append(token)
        self._generated.append(token)
        if self.matcher is not None:
            self.matcher.accept(token)

    def shaped(self, logits: mx.array) -> mx.array:
        """Logits [1, vocab] with bias, penalties and grammar, in their dtype. Lazy. Give it an array object of its
        own: mlx-lm's processors write into it."""
        vocab = logits.shape[-1]
        self._fit(vocab)
        for process in self._bias:
            logits = process(mx.array([], mx.uint32), logits)
        for process, tokens in self._penalties:
            logits = process(mx.array(list(tokens), mx.uint32), logits)
        # Last, so that nothing gives weight back to what the grammar forbids.
        if self.matcher is not None:
            logits = mx.where(_widened(self.matcher.mask(), vocab), logits, -float("inf"))
        return logits

    def drawn(self, logprobs: mx.array, position: int) -> mx.array:
        """The token [1] at `position`, from log-probabilities [1, vocab]. Lazy; seeds MLX's generator."""
        draw = self._fit(logprobs.shape[-1])
        mx.random.seed((self.sampling.seed * 0x9E3779B97F4A7C15 + position) % 2**64)
        # mlx-lm compiles its samplers with their parameters as constants: 0.4 s on CPU for every temperature, top_p and
        # min_p that was not seen before, in which no chunk moves. Uncompiled they give the same tokens.
        mx.disable_compile()
        try:
            return draw(logprobs)
        finally:
            mx.enable_compile()

    def _made_penalties(self) -> list[tuple[Processor, Sequence[int]]]:
        """In mlx-lm's order. Each with the tokens that it looks at, which grow with the text."""
        sampling, made = self.sampling, list[tuple[Processor, Sequence[int]]]()
        if sampling.repetition_penalty != 1.0:
            made.append((make_repetition_penalty(sampling.repetition_penalty, _ALL), self._recent))
        if sampling.presence_penalty:
            made.append((make_presence_penalty(sampling.presence_penalty, _ALL), self._generated))
        if sampling.frequency_penalty:
            made.append((make_frequency_penalty(sampling.frequency_penalty, _ALL), self._generated))
        return made

    def _fit(self, vocab: int) -> Callable[[mx.array], mx.array]:
        """Leave out what the vocabulary lacks, once: MLX checks no index. Returns mlx-lm's sampler."""
        if self._draw is None:
            sampling = self.sampling
            bias = {token: float(value) for token, value in sampling.logit_bias.items() if 0 <= token < vocab}
            self._bias = make_logits_processors(bias)
            known = [token for token in self._recent if 0 <= token < vocab]
            self._recent.clear()
            self._recent.extend(known)
            self._draw = make_sampler(
                sampling.temperature,
                top_p=max(sampling.top_p, _LEAST_TOP_P) if sampling.top_p < 1.0 else 0.0,
                min_p=sampling.min_p,
                top_k=sampling.top_k if sampling.top_k < vocab else 0,
            )
        return self._draw


@dataclass(frozen=True)
class Sampled:
    """A row's token; its log-probability where the request asked for it."""

    token: int
    logprob: TokenLogprob | None


def sample(logits: mx.array, rows: Sequence[tuple[Sampler, int]]) -> list[Sampled]:
    """One token per row of `logits` [rows, vocab]. `rows` has each row's sampler and the absolute position of the
    token to be sampled. One evaluation for all; `logits` may be lazy and are not changed.

    Does not `accept` what it samples.
    """
    if any(sampler.matcher for sampler, _ in rows):
        mx.async_eval(logits)  # type: ignore[no-untyped-call]  # the masks are worked out meanwhile
    if any(sampler.shapes for sampler, _ in rows):
        logits = mx.concatenate([sampler.shaped(logits[index : index + 1]) for index, (sampler, _) in enumerate(rows)])
    plain = all(sampler.greedy and sampler.sampling.logprobs < 0 for sampler, _ in rows)
    if plain and (tokens := most_probable(logits)) is not None:
        return [Sampled(token, None) for token in tokens]
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    greedy = mx.argmax(logprobs, axis=-1)  # of ties the lowest id
    picked = [
        greedy[index : index + 1] if sampler.greedy else sampler.drawn(logprobs[index : index + 1], position)
        for index, (sampler, position) in enumerate(rows)
    ]
    told: dict[int, mx.array] = {}
    for index, (sampler, _) in enumerate(rows):
        if sampler.sampling.logprobs >= 0:
            exact = logits[index].astype(mx.float32)
            told[index] = exact - mx.logsumexp(exact)
    drawn = mx.concatenate(picked)
    mx.eval(drawn, *told.values())
    sampled = []
    for index, token in enumerate(cast("list[int]", drawn.tolist())):
        count = rows[index][0].sampling.logprobs
        sampled.append(Sampled(token, _reported(np.array(told[index]), token, count) if index in told else None))
    return sampled


def _reported(logprobs: NDArray[np.float32], token: int, count: int) -> TokenLogprob:
    """`token` and the `count` most probable of [vocab], highest first, of ties the lowest id first. Tokens that cannot
    come are never among them, so there may be fewer."""
    count = min(count, len(logprobs))
    least = np.partition(logprobs, -count)[-count] if count else np.inf
    # All that tie with the last one: which of them a partition puts first is not told.
    best = np.flatnonzero((logprobs >= least) & np.isfinite(logprobs))
    best = best[np.argsort(-logprobs[best], kind="stable")][:count]
    return TokenLogprob(token, float(logprobs[token]), [(int(each), float(logprobs[each])) for each in best])


def _widened(allowed: NDArray[np.bool_], vocab: int) -> mx.array:
    """As wide as the logits, which often have places for more tokens than the tokenizer: those cannot come."""
    return mx.array(np.pad(allowed[:vocab], (0, max(0, vocab - len(allowed)))))


def _check(sampling: Sampling) -> None:
    values: list[tuple[str, float, tuple[float, float]]] = [
        *((name, getattr(sampling, name), bounds) for name, bounds in BOUNDS.items()),
        *((f"logit_bias of token {token}", value, BIAS) for token, value in sampling.logit_bias.items()),
    ]
    for name, value, (least, most) in values:
        if not least <= value <= most:  # nor NaN
            raise ValueError(f"{name} is {value:g}: it must be from {least:g} to {most:g}")
