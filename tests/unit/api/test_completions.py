"""/v1/completions, asked by OpenAI's own client."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from tests.unit.api.fake import LIMIT_S, MODEL, FakePort


def test_a_text_and_its_account(client: openai.OpenAI, port: FakePort) -> None:
    answer = client.completions.create(model=MODEL, prompt="Say", max_tokens=11)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Hello there", "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 11)
    assert (port.asked[0].prompt, port.asked[0].max_tokens) == (list(b"Say"), 11)


def test_without_a_limit_the_deployments_own_counts(client: openai.OpenAI, port: FakePort) -> None:
    client.completions.create(model=MODEL, prompt="Say")
    assert port.asked[0].max_tokens == 0


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("a", [[97]]), (["a", "bc"], [[97], [98, 99]]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_prompts_are_texts_or_tokens_one_or_several(
    client: openai.OpenAI, port: FakePort, prompt: Any, tokens: list[list[int]]
) -> None:
    answer = client.completions.create(model=MODEL, prompt=prompt)
    assert [ask.prompt for ask in port.asked] == tokens
    assert [choice.index for choice in answer.choices] == list(range(len(tokens)))


def test_choices_of_several_prompts_stand_in_order_and_each_prompt_counts_once(
    client: openai.OpenAI, port: FakePort
) -> None:
    answer = client.completions.create(model=MODEL, prompt=["a", "bc"], n=2)
    assert [ask.prompt for ask in port.asked] == [[97], [97], [98, 99], [98, 99]]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 44)


def test_a_stream_adds_up_to_the_text(client: openai.OpenAI, port: FakePort) -> None:
    with client.completions.create(
        model=MODEL, prompt="Say", stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "Hello there"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 14


def test_log_probabilities_have_texts_and_offsets(client: openai.OpenAI, port: FakePort) -> None:
    port.text = "Hi you"
    found = client.completions.create(model=MODEL, prompt="Say", logprobs=2).choices[0].logprobs
    assert found is not None
    assert found.tokens == list("Hi you")
    assert found.text_offset == [0, 1, 2, 3, 4, 5]
    assert found.token_logprobs == [-0.25] * 6
    assert found.top_logprobs == [{"a": -0.5, "b": -1.5}] * 6


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": ["a"] * 40, "n": 2}, "n"),
        ({}, "prompt"),
    ],
)
def test_what_is_not_done_here_is_refused_by_its_field(
    url: str, port: FakePort, fields: dict[str, Any], param: str
) -> None:
    answer = httpx.post(f"{url}/v1/completions", json=fields, timeout=LIMIT_S)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert port.asked == []
