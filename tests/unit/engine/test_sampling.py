"""What a row's token depends on, and that it follows the distribution and OpenAI's definitions."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.sample_utils import make_sampler

from nova.engine.sampling import Sampler, sample
from nova.wire.work import Sampling

VOCAB = 24
CHI_SQUARE_9 = 27.88
"""Its 99.9 % quantile with nine degrees of freedom, from the usual tables."""

TOKENS = st.integers(0, VOCAB - 1)
LOGITS = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(0, 3, VOCAB).astype(np.float32))
PARAMETERS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.5, 1.0, 1.7]),
    top_p=st.sampled_from([1.0, 0.9, 0.4]),
    top_k=st.sampled_from([0, 1, 5, VOCAB, 1000]),
    min_p=st.sampled_from([0.0, 0.05, 0.3]),
    seed=st.integers(0, 2**63),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    repetition_context=st.sampled_from([0, 2, 20]),
    presence_penalty=st.sampled_from([0.0, 1.5, -0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.7]),
    logit_bias=st.dictionaries(st.integers(0, 2 * VOCAB), st.sampled_from([-100, -2.5, 3]), max_size=3),
    logprobs=st.sampled_from([-1, 0, 3]),
)
REQUESTS = st.tuples(
    PARAMETERS,
    st.lists(st.integers(0, 2 * VOCAB), max_size=5),
    st.lists(TOKENS, max_size=6),
    st.integers(0, 5000),
    LOGITS,
)


def sampler(sampling: Sampling, prompt: list[int], text: list[int]) -> Sampler:
    made = Sampler(sampling, prompt)
    for token in text:
        made.accept(token)
    return made


def alone(sampling: Sampling, logits: Any, position: int = 0, text: list[int] | None = None) -> int:
    return sample(mx.array(logits)[None], [(sampler(sampling, [], text or []), position)])[0].token


@given(st.lists(REQUESTS, min_size=1, max_size=5), st.sampled_from([mx.float32, mx.bfloat16]))
@settings(max_examples=40)
def test_a_request_gets_the_same_token_in_a_batch_as_alone_and_the_logits_stay(
    rows: list[Any], dtype: mx.Dtype
) -> None:
    logits = mx.array(np.stack([each[-1] for each in rows])).astype(dtype)
    before = np.array(logits.astype(mx.float32))
    together = sample(logits, [(sampler(*each[:3]), each[3]) for each in rows])
    single = [sample(logits[index : index + 1], [(sampler(*each[:3]), each[3])])[0] for index, each in enumerate(rows)]
    assert together == single
    assert np.array_equal(np.array(logits.astype(mx.float32)), before)


# Few different values: mlx-lm compiles for each of them, which takes half a second.
@given(
    LOGITS,
    st.sampled_from([0.0, 0.7]),
    st.sampled_from([1.0, 0.8]),
    st.sampled_from([0, 3]),
    st.sampled_from([0.0, 0.1]),
    st.integers(0, 2**63),
    st.integers(0, 10**6),
    st.sampled_from([mx.float32, mx.bfloat16]),
)
@settings(max_examples=60)
def test_a_token_is_mlx_lm_s_seeded_with_the_request_s_seed_and_position(
    logits: Any, temperature: float, top_p: float, top_k: int, min_p: float, seed: int, position: int, dtype: mx.Dtype
) -> None:
    row = mx.array(logits)[None].astype(dtype)
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed)
    expected = make_sampler(temperature, top_p=top_p if top_p < 1 else 0.0, top_k=top_k, min_p=min_p)
    mx.random.seed((seed * 0x9E3779B97F4A7C15 + position) % 2**64)
    token = expected(row - mx.logsumexp(row, keepdims=True)).item()
    assert sample(row, [(Sampler(sampling, []), position)])[0].token == token


def test_mlx_lm_s_samplers_run_uncompiled_and_all_else_goes_on_being_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def body(logprobs: mx.array) -> mx.array:
        runs.append(1)
        return mx.argmax(logprobs, axis=-1)

    compiled = mx.compile(body)  # whose body runs once for all calls, as long as MLX compiles
    monkeypatch.setattr("nova.engine.sampling.make_sampler", lambda *_, **__: compiled)
    for _ in range(3):
        alone(Sampling(temperature=1.0), np.zeros(VOCAB, np.float32))
    assert len(runs) == 3
    for _ in range(3):
        mx.eval(compiled(mx.zeros((2, VOCAB))))
    assert len(runs) == 4


def chi_square(tokens: list[int], probabilities: Any) -> float:
    expected = probabilities * len(tokens)
    seen = np.array([Counter(tokens)[token] for token in range(len(probabilities))])
    return float(((seen - expected) ** 2 / expected).sum())


def draws(temperature: float, logits: Any, count: int = 3000) -> list[int]:
    one = Sampler(Sampling(temperature=temperature, seed=11), [])
    repeated = mx.broadcast_to(mx.array(logits), (count, len(logits)))
    return [each.token for each in sample(repeated, [(one, position) for position in range(count)])]


def test_tokens_of_successive_positions_follow_the_softmax_and_a_biased_sampler_is_found_out() -> None:
    logits = np.linspace(-1, 1, 10, dtype=np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert chi_square(draws(1.0, logits), probabilities) < CHI_SQUARE_9
    assert chi_square(draws(0.8, logits), probabilities) > CHI_SQUARE_9


@given(LOGITS, st.lists(TOKENS, max_size=40), st.floats(-2, 2), st.floats(-2, 2))
def test_presence_counts_once_and_frequency_every_time_over_all_of_the_text_and_none_of_the_prompt(
    logits: Any, text: list[int], presence: float, frequency: float
) -> None:
    one = sampler(Sampling(presence_penalty=presence, frequency_penalty=frequency), [3, 3, 4], text)
    shaped = np.array(one.shaped(mx.array(logits)[None]))[0]
    counts = np.bincount(text, minlength=VOCAB)
    # OpenAI: mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence
    assert shaped == pytest.approx(logits - counts * frequency - (counts > 0) * presence, abs=1e-4)


@given(LOGITS, st.lists(TOKENS, max_size=8), st.lists(TOKENS, max_size=8), st.integers(0, 12), st.floats(0.5, 2))
def test_repetition_looks_at_the_last_tokens_of_prompt_and_text(
    logits: Any, prompt: list[int], text: list[int], context: int, penalty: float
) -> None:
    one = sampler(Sampling(repetition_penalty=penalty, repetition_context=context), prompt, text)
    seen = np.isin(np.arange(VOCAB), (prompt + text)[max(0, len(prompt + text) - context) :])
    expected = np.where(seen, np.where(logits < 0, logits * penalty, logits / penalty), logits)
    assert np.array(one.shaped(mx.array(logits)[None]))[0] == pytest.approx(expected, rel=1e-5)


def test_a_bias_moves_its_token_and_what_the_vocabulary_lacks_is_passed_over() -> None:
    logits = np.zeros(VOCAB, np.float32)
    assert alone(Sampling(logit_bias={7: 5, VOCAB: 100, 2**40: 100, -1: 100}), logits) == 7
    assert alone(Sampling(logit_bias={VOCAB: 100}), logits) == 0
    one = Sampler(Sampling(repetition_penalty=2.0), [VOCAB, 2**31, 3])
    assert sample(mx.array(logits + 1)[None], [(one, 0)])[0].token == 0
    assert np.flatnonzero(np.array(one.shaped(mx.array(logits + 1)[None]))[0] < 1).tolist() == [3]


@given(LOGITS, st.integers(0, 10))
def test_log_probabilities_are_of_the_penalised_distribution_before_temperature(logits: Any, count: int) -> None:
    sampling = Sampling(temperature=1.5, logprobs=count, presence_penalty=2.0, logit_bias={1: 4.0})
    found = sample(mx.array(logits)[None], [(sampler(sampling, [], [2, 2]), 9)])[0]
    exact = logits.astype(np.float64)
    exact[1] += 4
    exact[2] -= 2
    exact -= np.log(np.exp(exact).sum())
    assert found.logprob is not None
    assert found.logprob.token == found.token
    assert found.logprob.logprob == pytest.approx(exact[found.token], abs=1e-5)
    assert [token for token, _ in found.logprob.top] == np.argsort(-exact, kind="stable")[:count].tolist()
    assert [value for _, value in found.logprob.top] == pytest.approx(np.sort(exact)[::-1][:count], abs=1e-5)


def test_alternatives_that_tie_come_by_id_and_those_that_cannot_come_are_left_out() -> None:
    def top(logits: list[float], count: int) -> list[int]:
        found = sample(mx.array([logits]), [(Sampler(Sampling(logprobs=count), []), 0)])[0]
        assert found.logprob is not None
        return [token for token, _ in found.logprob.top]

    assert top([1, 2, 1, 2, 1, 1], 4) == [1, 3, 0, 2]
    assert top([1, -math.inf, 2], 5) == [2, 0]


def test_only_rows_that_ask_get_log_probabilities() -> None:
    rows = [(Sampler(Sampling(logprobs=count), []), 0) for count in (-1, 0, 2)]
    found = [each.logprob for each in sample(mx.zeros((3, VOCAB)), rows)]
    assert found[0] is None
    assert [len(each.top) for each in found[1:] if each] == [0, 2]


def test_greedy_takes_the_lowest_id_of_a_tie() -> None:
    logits = np.zeros(VOCAB, np.float32)
    logits[[5, 9]] = 1.0
    assert alone(Sampling(), logits) == 5


@pytest.mark.parametrize("sampling", [Sampling(temperature=1e-9), Sampling(temperature=2.0, top_p=0.0)])
def test_the_least_temperature_and_the_least_nucleus_leave_the_most_probable_token(sampling: Sampling) -> None:
    logits = mx.array(np.arange(VOCAB, dtype=np.float32) / 10).astype(mx.float16)[None]
    assert {sample(logits, [(Sampler(sampling, []), position)])[0].token for position in range(50)} == {VOCAB - 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
        {"repetition_context": -1},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"logprobs": 101},
        {"logit_bias": {5: 100.1}},
        {"logit_bias": {5: math.nan}},
    ],
)
def test_a_parameter_out_of_bounds_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampler(Sampling(**wrong), [])
