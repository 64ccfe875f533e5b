"""A constraint on the answer lets reasoning end first, and what reads the answer sees no reasoning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from nova.api import grammar
from nova.api.answer import AfterThought, after_thought
from nova.api.output import Splitter, Text, Thought
from nova.model.dialect import Dialect
from tests.support.tiny import make_tiny

DIALECT = Dialect(("<think>", "</think>"))
CONSTRAINT = after_thought(grammar.of_schema({"const": 'a "b"'}, "p"), DIALECT)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = make_tiny(tmp_path_factory.mktemp("tokenizer") / "m", layers=1)
    return LLTokenizer((Path(folder) / "tokenizer.json").read_text())


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('so: "</th" ü\n</think>\n\n"a \\"b\\""', True),
        ('</think>"a \\"b\\""', True),
        ('so</think>but "a \\"b\\""', False),
        ('so</think>"c"', False),
        ('"a \\"b\\""', False),
        ("so</think>", False),
    ],
)
def test_open_reasoning_is_free_and_ends_before_the_constraint(tokenizer: Any, text: str, whole: bool) -> None:
    matcher = LLMatcher(tokenizer, CONSTRAINT, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    assert (matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()) == whole


def test_a_reader_of_the_answer_sees_no_reasoning() -> None:
    reader = AfterThought(DIALECT, Splitter(Dialect()))
    assert reader.add("so </thi") + reader.add("nk>\n <think>") == [Thought("so"), Text("<think>")]
    assert reader.end() == []


def test_reasoning_that_never_ends_is_no_answer() -> None:
    reader = AfterThought(DIALECT, Splitter(Dialect()))
    assert reader.add("so") + reader.end(cut=True) == [Thought("so")]
