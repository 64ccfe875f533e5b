"""/v1/chat/completions, asked by OpenAI's own client."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam

from nova.model.dialect import Dialect
from nova.wire.requests import Failed
from tests.unit.api.fake import LIMIT_S, MODEL, FakePort

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
SCHEMA: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: ChatCompletionToolUnionParam = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
DIALECT = Dialect(("<think>", "</think>"), ("<tool_call>", "</tool_call>"), lambda text, _: [json.loads(text)])
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Ulm"}}</tool_call>'


def test_a_message_and_its_account(client: openai.OpenAI, port: FakePort) -> None:
    port.cached = 1
    answer = client.chat.completions.create(model=MODEL, messages=HI)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 11, 13)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1


def test_a_stream_adds_up_to_the_message_and_ends_with_the_account(client: openai.OpenAI, port: FakePort) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hello there"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-2:] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 11
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_choices_differ_in_their_seeds_and_the_prompt_counts_once(client: openai.OpenAI, port: FakePort) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HI, n=3, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert port.asked[0].sampling.seed == 7
    assert len({ask.sampling.seed for ask in port.asked}) == 3
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 33)


def test_several_choices_stream_side_by_side(client: openai.OpenAI, port: FakePort) -> None:
    texts = {0: "", 1: ""}
    with client.chat.completions.create(model=MODEL, messages=HI, n=2, stream=True) as stream:
        for chunk in stream:
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == {0: "Hello there", 1: "Hello there"}


def test_every_field_of_sampling_arrives(client: openai.OpenAI, port: FakePort) -> None:
    client.chat.completions.create(
        model=MODEL, messages=HI, temperature=0.5, top_p=0.9, seed=3, presence_penalty=0.1, frequency_penalty=-0.2,
        logit_bias={"65": 5}, stop=["a", "b"], max_completion_tokens=9, logprobs=True, top_logprobs=2,
        extra_body={"top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "ignore_eos": True, "unknown": [1]},
    )  # fmt: skip
    (asked,) = port.asked
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 40, 0.05)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (0.1, -0.2, 1.1)
    assert (sampling.seed, sampling.logit_bias, sampling.logprobs) == (3, {65: 5.0}, 2)
    assert (asked.stop, asked.max_tokens, asked.ignore_eos) == (["a", "b"], 9, True)


def test_what_a_request_leaves_out_is_the_models_own(client: openai.OpenAI, port: FakePort) -> None:
    port.sampling = {"temperature": 0.6, "top_k": 20}
    client.chat.completions.create(model=MODEL, messages=HI, temperature=0.2)
    client.chat.completions.create(model=MODEL, messages=HI)
    first, second = (ask.sampling for ask in port.asked)
    assert (first.temperature, first.top_k, first.top_p, first.logprobs) == (0.2, 20, 1.0, -1)
    assert second.temperature == 0.6
    assert first.seed != second.seed


def test_log_probabilities_name_each_token_and_its_alternatives(client: openai.OpenAI, port: FakePort) -> None:
    port.text = "né"
    answer = client.chat.completions.create(model=MODEL, messages=HI, logprobs=True, top_logprobs=2)
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content is not None
    assert (content[0].token, content[0].logprob, content[0].bytes) == ("n", -0.25, [110])
    assert content[1].bytes is None  # half a character
    assert [(top.token, top.logprob) for top in content[0].top_logprobs] == [("a", -0.5), ("b", -1.5)]
    assert len(content) == 3


def test_streamed_log_probabilities_are_all_told_though_text_is_held_back(
    client: openai.OpenAI, port: FakePort
) -> None:
    port.text, port.dialect = "a <thin b", DIALECT
    with client.chat.completions.create(model=MODEL, messages=HI, logprobs=True, stream=True) as stream:
        choices = [chunk.choices[0] for chunk in stream]
    tokens = [one.token for choice in choices if choice.logprobs for one in choice.logprobs.content or []]
    assert "".join(tokens) == "".join(choice.delta.content or "" for choice in choices) == "a <thin b"


def test_reasoning_is_told_apart(client: openai.OpenAI, port: FakePort) -> None:
    port.text, port.dialect, port.in_thought = "I see.</think>Yes", DIALECT, True
    message = client.chat.completions.create(model=MODEL, messages=HI).choices[0].message
    assert message.content == "Yes"
    assert message.model_extra == {"reasoning_content": "I see."}


def test_a_call_of_a_tool_and_its_result_make_a_round(client: openai.OpenAI, port: FakePort) -> None:
    port.text, port.dialect = CALL, DIALECT
    answer = client.chat.completions.create(model=MODEL, messages=HI, tools=[WEATHER]).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    (call,) = answer.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Ulm"})
    back: Any = [*HI, answer.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    client.chat.completions.create(model=MODEL, messages=back, tools=[WEATHER])
    _, said, result = port.chats[-1].messages
    assert said["tool_calls"][0]["function"]["arguments"] == {"city": "Ulm"}
    assert (result["role"], result["tool_call_id"], result["content"]) == ("tool", call.id, "rain")
    assert port.chats[-1].tools[0]["function"]["name"] == "weather"


def test_a_streamed_call_comes_whole(client: openai.OpenAI, port: FakePort) -> None:
    port.text, port.dialect = f"Let me see. {CALL}", DIALECT
    with client.chat.completions.create(model=MODEL, messages=HI, tools=[WEATHER], stream=True) as stream:
        choices = [chunk.choices[0] for chunk in stream]
    (call,) = [call for choice in choices for call in choice.delta.tool_calls or []]
    assert call.function is not None
    assert (call.index, call.function.name, call.function.arguments) == (0, "weather", '{"city": "Ulm"}')
    assert choices[-1].finish_reason == "tool_calls"


def test_tool_choice_none_hides_the_tools(client: openai.OpenAI, port: FakePort) -> None:
    port.text, port.dialect = CALL, DIALECT
    answer = client.chat.completions.create(model=MODEL, messages=HI, tools=[WEATHER], tool_choice="none")
    assert answer.choices[0].message.content == CALL
    assert list(port.chats[-1].tools) == []


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_must_be_made_is_held_by_a_grammar(client: openai.OpenAI, port: FakePort, choice: Any) -> None:
    port.text = '{"name": "weather", "arguments": {"city": "Ulm"}}'
    answer = client.chat.completions.create(model=MODEL, messages=HI, tools=[WEATHER], tool_choice=choice).choices[0]
    assert '"const":"weather"' in port.asked[0].grammar
    (call,) = answer.message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Ulm"}
    assert answer.finish_reason == "tool_calls"


def test_a_forced_call_that_is_cut_is_told_as_the_text_it_is(client: openai.OpenAI, port: FakePort) -> None:
    port.text, port.finish = '{"name": "wea', "length"
    answer = client.chat.completions.create(model=MODEL, messages=HI, tools=[WEATHER], tool_choice="required")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ('{"name": "wea', "length")


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ({"type": "json_object"}, '"type":"object"'),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}, '"city"'),
    ],
)
def test_a_format_becomes_a_grammar(client: openai.OpenAI, port: FakePort, form: Any, part: str) -> None:
    client.chat.completions.create(model=MODEL, messages=HI, response_format=form)
    assert part in port.asked[0].grammar


def test_the_format_text_is_free(client: openai.OpenAI, port: FakePort) -> None:
    client.chat.completions.create(model=MODEL, messages=HI, response_format={"type": "text"})
    assert port.asked[0].grammar == ""


def test_parts_of_text_are_joined_and_a_developer_is_the_system(client: openai.OpenAI, port: FakePort) -> None:
    parts: list[ChatCompletionMessageParam] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    client.chat.completions.create(
        model=MODEL, messages=parts, extra_body={"chat_template_kwargs": {"enable_thinking": False}}
    )
    told = [(message["role"], message["content"]) for message in port.chats[-1].messages]
    assert told == [("system", "Be brief."), ("user", "ab")]
    assert port.chats[-1].options == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "hi"}, "messages", "list"),
        ({}, "messages", "required"),
        ({"messages": HI, "temperature": "0.5"}, "temperature", "number"),
        ({"messages": HI, "temperature": 3}, "temperature", "less than or equal to 2"),
        ({"messages": HI, "n": True}, "n", "integer"),
        ({"messages": HI, "n": 65}, "n", "64"),
        ({"messages": HI, "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"messages": HI, "stop": [""]}, "stop[0]", "at least 1 character"),
        ({"messages": HI, "logit_bias": {"a": 1}}, "logit_bias.a", "pattern"),
        ({"messages": HI, "top_logprobs": 2}, "top_logprobs", "logprobs"),
        ({"messages": [{"role": "clown", "content": ""}]}, "messages[0].role", "'system'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type", "image"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "messages[0].content[0].text",
            "string",
        ),
        ({"messages": HI, "response_format": {"type": "xml"}}, "response_format.type", "'xml'"),
        ({"messages": HI, "response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "schema"),
        (
            {"messages": HI, "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "foo"}}}},
            "response_format.json_schema.schema",
            "Invalid type: foo",
        ),
        ({"messages": HI, "tool_choice": "required"}, "tool_choice", "no tool"),
        (
            {
                "messages": HI,
                "tools": [WEATHER],
                "tool_choice": {"type": "function", "function": {"name": "x"}},
            },
            "tool_choice",
            "'x'",
        ),
        ({"messages": [{"role": "user", "content": "unreadable"}]}, None, "the chat template fails"),
    ],
)
def test_a_wrong_request_is_refused_by_its_field(
    url: str, port: FakePort, body: dict[str, Any], param: str | None, words: str
) -> None:
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=LIMIT_S)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]
    assert port.asked == []


def test_another_model_is_not_found_and_the_served_one_is_named(client: openai.OpenAI, port: FakePort) -> None:
    with pytest.raises(openai.NotFoundError, match=f"'gpt-9' is not served here; this server has '{MODEL}'") as caught:
        client.chat.completions.create(model="gpt-9", messages=HI)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "told", "retry"),
    [
        ("invalid", 400, "invalid_value", None),
        ("too_long", 400, "context_length_exceeded", None),
        ("busy", 429, "rate_limit_exceeded", "3"),
        ("unavailable", 503, "unavailable", "3"),
        ("deadline", 504, "timeout", "3"),
        ("lost", 502, "request_lost", "3"),
    ],
)
def test_a_request_that_fails_at_once_has_its_own_status(
    client: openai.OpenAI, port: FakePort, code: str, status: int, told: str, retry: str | None, streamed: bool
) -> None:
    port.failure = Failed("", "why it failed", code=code, retry_after_s=2.5 if retry else 0.0)
    with pytest.raises(openai.APIStatusError, match="why it failed") as caught:
        client.chat.completions.create(model=MODEL, messages=HI, stream=streamed)
    assert (caught.value.status_code, caught.value.code) == (status, told)
    assert caught.value.response.headers.get("retry-after") == retry


def test_a_stream_that_breaks_ends_with_an_error_event(client: openai.OpenAI, port: FakePort) -> None:
    port.failure, port.fails_after = Failed("", "node-2 is gone", 2), 2
    text = ""
    stream = client.chat.completions.create(model=MODEL, messages=HI, stream=True)

    def read() -> None:
        nonlocal text
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""

    with pytest.raises(openai.APIError, match="node-2 is gone"):
        read()
    assert text == "Hello "


def test_one_choice_that_fails_ends_the_others(client: openai.OpenAI, port: FakePort) -> None:
    port.failure, port.fails_after, port.others_held = Failed("", "node-2 is gone", 1), 1, True
    with pytest.raises(openai.APIStatusError, match="node-2 is gone"):
        client.chat.completions.create(model=MODEL, messages=HI, n=3)
    assert len(port.asked) == 3
    assert len({port.abandoned.get(timeout=LIMIT_S) for _ in range(2)}) == 2


def test_without_a_model_the_reason_is_told(client: openai.OpenAI, port: FakePort) -> None:
    port.opened, port.why_not = False, "the model is being opened"
    with pytest.raises(openai.APIStatusError, match="the model is being opened") as caught:
        client.chat.completions.create(model=MODEL, messages=HI)
    assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (503, "1")
