"""What may come next in a grammar, with the demo model's tokenizer."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from llguidance import LLMatcher

from nova.engine import grammar as module
from nova.engine.grammar import MAX_GRAMMAR_CHARS, Grammars, Matcher
from nova.engine.sampling import Sampler, sample
from nova.errors import EngineError, ModelError
from nova.model.card import read_card
from nova.model.tokenizer import Tokenizer
from nova.wire.work import Sampling

LIMIT_S = 30.0
MORE = 100
"""Places of the logits beyond the tokenizer's vocabulary."""

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
JSON: str = LLMatcher.grammar_from_json_schema(SCHEMA, overrides={"whitespace_pattern": r"[ \n]?"})


@pytest.fixture(scope="module")
def grammars(smollm2: Path) -> Grammars:
    return Grammars(smollm2)


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Tokenizer:
    return Tokenizer.load(smollm2)


@pytest.fixture(scope="module")
def stop(smollm2: Path) -> list[int]:
    return list(read_card(smollm2).eos_token_ids)


def regex(pattern: str) -> str:
    made: str = LLMatcher.grammar_from_regex(pattern)
    return made


def allowed(matcher: Matcher) -> list[int]:
    tokens: list[int] = np.flatnonzero(matcher.mask()).tolist()
    return tokens


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_whatever_the_logits_say_the_text_is_valid_json_of_the_schema_and_ends_by_the_stop_token(
    grammars: Grammars, tokenizer: Tokenizer, stop: list[int], smollm2: Path, temperature: float
) -> None:
    width = read_card(smollm2).vocab_size + MORE
    for seed in range(8):
        sampler = Sampler(Sampling(temperature=temperature, seed=seed), [], grammars.matcher(JSON, stop))
        logits = mx.random.normal((100, width), key=mx.random.key(seed)) * 5
        logits[:, -MORE:] = 1000.0  # what no tokenizer knows would be the most probable
        logits[:, stop] = -30.0  # and the end comes only because it must
        text = list[int]()
        while not text or text[-1] not in stop:
            assert len(text) < 100
            text.append(sample(logits[len(text) : len(text) + 1], [(sampler, len(text))])[0].token)
            sampler.accept(text[-1])
        value = json.loads(tokenizer.decode(text[:-1]))
        assert set(value) == {"name", "age", "tags"}
        assert isinstance(value["name"], str)
        assert len(value["name"]) <= 12
        assert 0 <= value["age"] <= 150
        assert set(value["tags"]) <= {"red", "green", "blue"}


def test_a_row_with_a_grammar_leaves_the_others_of_its_batch_as_they_are(grammars: Grammars, stop: list[int]) -> None:
    logits = mx.random.normal((3, 49152 + MORE), key=mx.random.key(4))
    free = [each.token for each in sample(logits, [(Sampler(Sampling(), []), 0)] * 3)]
    rows = [
        (Sampler(Sampling(), [], grammars.matcher(regex("[0-9]"), stop) if row == 1 else None), 0) for row in range(3)
    ]
    mixed = [each.token for each in sample(logits, rows)]
    assert [mixed[0], mixed[2]] == [free[0], free[2]]
    assert mixed[1] in allowed(grammars.matcher(regex("[0-9]"), stop))


def test_the_end_is_allowed_when_and_only_when_the_grammar_is_complete(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    a, b, end = tokenizer.encode("a")[0], tokenizer.encode("b")[0], 2
    matcher = grammars.matcher(regex("ab?"), [end])
    assert end not in allowed(matcher)
    matcher.accept(a)
    assert allowed(matcher) == [end, b]
    assert not matcher.over
    matcher.accept(b)
    assert matcher.over
    assert allowed(matcher) == [end]
    matcher.accept(end)
    assert not matcher.error


def test_a_text_ends_by_the_request_s_stop_tokens_and_not_by_the_tokenizer_s_own(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    a, own = tokenizer.encode("a")[0], tokenizer.eos_token_id
    assert own is not None
    matcher = grammars.matcher(regex("a"), [0, 17, 10**9])
    matcher.accept(a)
    assert allowed(matcher) == [0, 17]
    without = grammars.matcher(regex("a*"), [])
    without.accept(a)
    assert own in allowed(without)
    assert not without.over
    without.accept(own)
    assert without.over, "the request has no stop tokens, so nothing else would end it"


def test_an_ordinary_token_that_is_a_stop_token_may_still_come_where_the_grammar_has_it(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    a, b = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    matcher = grammars.matcher(regex("a[bx][cd]"), [b])
    assert b not in allowed(matcher)
    matcher.accept(a)
    assert b in allowed(matcher)
    matcher.accept(b)  # which ends the text, so the grammar need not know it
    assert not matcher.error


def test_a_grammar_of_nothing_allows_the_end_alone(grammars: Grammars) -> None:
    assert allowed(grammars.matcher(regex(""), [2])) == [2]


def test_a_forbidden_token_is_refused_and_leaves_the_place_in_the_grammar(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    matcher = grammars.matcher(regex("ab"), [2])
    before = allowed(matcher)
    with pytest.raises(EngineError, match="mask was not applied"):
        matcher.accept(tokenizer.encode("z")[0])
    assert allowed(matcher) == before


def test_requests_of_one_grammar_do_not_share_their_place_in_it(grammars: Grammars, tokenizer: Tokenizer) -> None:
    one, other = grammars.matcher(JSON, [2]), grammars.matcher(JSON, [2])
    before = allowed(other)
    one.accept(tokenizer.encode("{")[0])
    assert allowed(other) == before != allowed(one)


def test_a_matcher_is_made_in_one_thread_and_used_in_another_while_more_are_made(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    made = list[Matcher]()
    thread = threading.Thread(
        target=lambda: made.extend(grammars.matcher(regex(f"a{{1,{count + 1}}}"), [2]) for count in range(1, 60))
    )
    mine, a = grammars.matcher(regex("a*"), [2]), tokenizer.encode("a")[0]
    thread.start()
    for _ in range(200):
        mine.accept(a)
        assert a in allowed(mine)
    thread.join(LIMIT_S)
    assert len(made) == 59
    made[-1].accept(a)
    assert a in allowed(made[-1])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("{", "EOF"),
        (LLMatcher.grammar_from_json_schema({"type": "nope"}), "nope"),
        (LLMatcher.grammar_from_lark("start: missing"), "missing"),
        (" " * (MAX_GRAMMAR_CHARS + 1), "characters"),
    ],
)
def test_a_wrong_grammar_is_refused_with_what_is_wrong(grammars: Grammars, wrong: str, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        grammars.matcher(wrong, [2])


def test_an_emulated_model_has_no_grammars() -> None:
    with pytest.raises(ModelError, match="emulated"):
        Grammars(None).matcher(JSON, [])


def test_a_grammar_that_becomes_too_complex_ends_the_text_and_says_why(
    smollm2: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LEXER_STATES", 20)
    schema = {"type": "array", "items": {"type": "string", "pattern": "(.*a){30}"}}
    matcher = Grammars(smollm2).matcher(LLMatcher.grammar_from_json_schema(schema), [2])
    for _ in range(20):
        token = allowed(matcher)[-1]
        if not matcher.error:
            matcher.accept(token)
    assert "states" in matcher.error
    assert matcher.over
    assert allowed(matcher) == [2]
    matcher.accept(tokenizer.encode("z")[0])  # which was under way
