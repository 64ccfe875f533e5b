"""The official `anthropic` client, over a socket, against a model that says what the tests tell it to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from tests.unit.api.fake import LIMIT_S, MODEL
from tests.unit.api.scripted import BUSY, Script, serving

WEATHER: Any = {
    "name": "weather",
    "description": "of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
HELLO: Any = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def playing() -> Iterator[tuple[Script, str]]:
    with serving() as found:
        yield found


@pytest.fixture
def port(playing: tuple[Script, str]) -> Script:
    return playing[0]


@pytest.fixture
def client(playing: tuple[Script, str]) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=playing[1], api_key="unused", max_retries=0, timeout=LIMIT_S) as client:
        yield client


@pytest.fixture
def web(playing: tuple[Script, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=playing[1], timeout=LIMIT_S) as web:
        yield web


def test_a_message_and_its_account(port: Script, client: anthropic.Anthropic) -> None:
    script = port.play("Hel", "lo!", cached=5)
    message = client.messages.create(
        **HELLO, system="Be brief.", stop_sequences=["END"], extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 7}
    )
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Hello!"}]
    assert (message.role, message.model, message.stop_reason, message.stop_sequence) == (
        "assistant", MODEL, "end_turn", None,
    )  # fmt: skip
    [ask] = script.asked
    usage = message.usage
    assert usage.input_tokens + 5 == len(ask.prompt)
    assert (usage.cache_read_input_tokens, usage.output_tokens) == (5, 2)
    assert (ask.max_tokens, ask.stop, ask.deadline_s) == (9, ["END"], 600.0)
    assert (ask.sampling.temperature, ask.sampling.top_p, ask.sampling.top_k) == (0.5, 0.9, 7)
    assert script.last_chat == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_a_stream_builds_up_the_same_message(port: Script, client: anthropic.Anthropic) -> None:
    port.play("<think>so</think>", "Let me", " see.", CALL, cached=5)
    asked = {**HELLO, "tools": [WEATHER], "thinking": {"type": "enabled", "budget_tokens": 1024}}
    with client.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    message = client.messages.create(**asked)
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    clean = {"id": "", "content": [{**block.to_dict(), "id": ""} for block in streamed.content]}
    assert clean["content"] == [{**block.to_dict(), "id": ""} for block in message.content]
    assert streamed.usage.to_dict() == message.usage.to_dict()
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert streamed.stop_reason == message.stop_reason == "tool_use"


def test_events_come_in_the_order_of_the_api(port: Script, web: httpx.Client) -> None:
    port.play("<think>so</think>", "Hi", " there", CALL)
    body = {**HELLO, "stream": True, "tools": [WEATHER], "thinking": {"type": "adaptive"}}
    answer = web.post("/v1/messages?beta=true", json=body, headers={"anthropic-version": "2023-06-01"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [one.split("\n", 1) for one in answer.text.strip().split("\n\n")]
    documents = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [name.removeprefix("event: ") for name, _ in events] == [one["type"] for one in documents]
    told = [(one["type"], one.get("index"), one.get("delta", {}).get("type")) for one in documents]
    assert told == [
        ("message_start", None, None),
        ("ping", None, None),
        ("content_block_start", 0, None),
        ("content_block_delta", 0, "thinking_delta"),
        ("content_block_stop", 0, None),
        ("content_block_start", 1, None),
        ("content_block_delta", 1, "text_delta"),
        ("content_block_delta", 1, "text_delta"),
        ("content_block_stop", 1, None),
        ("content_block_start", 2, None),
        ("content_block_delta", 2, "input_json_delta"),
        ("content_block_stop", 2, None),
        ("message_delta", None, None),
        ("message_stop", None, None),
    ]


def test_reasoning_that_was_not_asked_for_is_left_out(port: Script, client: anthropic.Anthropic) -> None:
    script = port.play("so</think>Hi", in_thought=True)
    assert [block.type for block in client.messages.create(**HELLO).content] == ["text"]
    assert script.chats[-1].options == {"enable_thinking": False}


def test_tools_go_there_and_back(port: Script, client: anthropic.Anthropic) -> None:
    script = port.play("<think>hm</think>I'll look.", CALL, CALL)
    asked = {**HELLO, "tools": [WEATHER], "thinking": {"type": "enabled", "budget_tokens": 1024}}
    first = client.messages.create(**asked)
    assert script.chats[-1].tools == [
        {
            "type": "function",
            "function": {"name": "weather", "description": "of a city", "parameters": WEATHER["input_schema"]},
        }
    ]
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("weather", {"city": "Köln"})] * 2
    assert len({call.id for call in calls}) == 2
    results: Any = [
        {"type": "tool_result", "tool_use_id": calls[0].id, "content": [{"type": "text", "text": "sunny"}]},
        {"type": "tool_result", "tool_use_id": calls[1].id, "content": "no such city", "is_error": True},
        {"type": "text", "text": "And?"},
        {"type": "text", "text": "Quick."},
    ]
    turns = [*asked["messages"], {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    client.messages.create(**{**asked, "messages": turns})
    function = {"name": "weather", "arguments": {"city": "Köln"}}
    assert script.last_chat[1:] == [
        {
            "role": "assistant",
            "content": "I'll look.",
            "reasoning_content": "hm",
            "tool_calls": [{"id": call.id, "type": "function", "function": function} for call in calls],
        },
        {"role": "tool", "tool_call_id": calls[0].id, "name": "weather", "content": "sunny"},
        {"role": "tool", "tool_call_id": calls[1].id, "name": "weather", "content": "Error: no such city"},
        {"role": "user", "content": "And?\nQuick."},
    ]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
@pytest.mark.parametrize("in_thought", [False, True])
def test_a_call_may_be_forced(port: Script, client: anthropic.Anthropic, choice: Any, in_thought: bool) -> None:
    thought = "so</think>" if in_thought else ""
    script = port.play(f'{thought}{{"name": "weather", "arguments": {{"city": "Bonn"}}}}', in_thought=in_thought)
    message = client.messages.create(**HELLO, tools=[WEATHER], tool_choice=choice)
    assert [block.type for block in message.content] == ["tool_use"]
    assert message.stop_reason == "tool_use"
    assert '"weather"' in script.asked[0].grammar


@pytest.mark.parametrize("in_thought", [False, True])
def test_an_answer_may_follow_a_schema(port: Script, client: anthropic.Anthropic, in_thought: bool) -> None:
    text = '{"city": "<think>Bonn"}'
    script = port.play("so</think>\n" + text if in_thought else text, in_thought=in_thought)
    output: Any = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    message = client.messages.create(**HELLO, output_config=output)
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": text}]
    assert "thought" in script.asked[0].grammar if in_thought else "json_schema" in script.asked[0].grammar


def test_neighbours_of_one_role_become_one_message(port: Script, client: anthropic.Anthropic) -> None:
    script = port.play("Hi")
    turns: Any = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": [{"type": "text", "text": "d"}, {"type": "redacted_thinking", "data": "x"}]},
        {"role": "system", "content": "e"},
        {"role": "user", "content": "f"},
    ]
    client.messages.create(**{**HELLO, "messages": turns})
    assert [(one["role"], one["content"]) for one in script.last_chat] == [
        ("user", "a\nb"),
        ("assistant", "c\nd"),
        ("system", "e"),
        ("user", "f"),
    ]


def test_tools_that_may_not_be_used_are_not_told(port: Script, client: anthropic.Anthropic) -> None:
    script = port.play(CALL)
    message = client.messages.create(**HELLO, tools=[WEATHER], tool_choice={"type": "none"})
    assert [block.type for block in message.content] == ["text"]
    assert script.chats[-1].tools == []


@pytest.mark.parametrize(
    ("ending", "reason", "sequence"),
    [
        ({"finish": "length"}, "max_tokens", None),
        ({"stopped_by": "END"}, "stop_sequence", "END"),
    ],
)
def test_the_reason_of_the_end_is_told(
    port: Script, client: anthropic.Anthropic, ending: dict[str, str], reason: str, sequence: str | None
) -> None:
    port.play("Hello", **ending)
    message = client.messages.create(**HELLO)
    assert (message.stop_reason, message.stop_sequence) == (reason, sequence)


def test_more_tokens_than_the_context_has_are_asked_for_as_many_as_it_leaves(
    port: Script, client: anthropic.Anthropic
) -> None:
    script = port.play("Hello", finish="length")
    message = client.messages.create(**{**HELLO, "max_tokens": 8192})
    assert script.asked[0].max_tokens == 4096 - message.usage.input_tokens
    assert message.stop_reason == "model_context_window_exceeded"
    long: Any = [{"role": "user", "content": "x" * 5000}]
    client.messages.create(**{**HELLO, "messages": long})
    assert script.asked[1].max_tokens == 9, "the coordinator says both numbers"


def test_tokens_are_counted_without_asking_the_model(port: Script, client: anthropic.Anthropic) -> None:
    script = port.play("Hi")
    message = client.messages.create(**HELLO, tools=[WEATHER])
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO["messages"], tools=[WEATHER])
    assert counted.input_tokens == message.usage.input_tokens
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0]"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": 5}}}}, "not a JSON schema"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "image"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "the last message"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}}, "'other'"),
        ({"tool_choice": {"type": "any"}}, "no tool"),
        ({"temperature": 3}, "temperature"),
    ],
)
def test_what_is_wrong_is_named(port: Script, web: httpx.Client, change: dict[str, Any], told: str) -> None:
    script = port.play("Hi")
    answer = web.post("/v1/messages", json={**HELLO, **change})
    document = answer.json()
    assert (answer.status_code, document["type"], document["error"]["type"]) == (400, "error", "invalid_request_error")
    assert told in document["error"]["message"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert script.asked == []


def test_another_model_is_not_found(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match=MODEL) as refused:
        client.messages.create(**{**HELLO, "model": "claude-of-tomorrow"})
    assert refused.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


@pytest.mark.parametrize("stream", [False, True])
def test_a_busy_server_says_when_to_try_again(port: Script, web: httpx.Client, stream: bool) -> None:
    port.play(failure=BUSY)
    answer = web.post("/v1/messages", json={**HELLO, "stream": stream})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.json()["error"] == {"type": "rate_limit_error", "message": "no room"}


def test_a_stream_that_breaks_ends_with_an_error_event(port: Script, client: anthropic.Anthropic) -> None:
    port.play("Hel", breaks="node-2 is gone")
    stream = client.messages.create(**HELLO, stream=True)
    assert next(stream).type == "message_start"
    with pytest.raises(anthropic.APIStatusError, match="node-2"):
        list(stream)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_abandons_the_request(port: Script, playing: tuple[Script, str], stream: bool) -> None:
    script = port.play(held=True)
    body = {**HELLO, "stream": stream}
    with httpx.Client(base_url=playing[1]) as web, pytest.raises(httpx.ReadTimeout):
        web.post("/v1/messages", json=body, timeout=httpx.Timeout(LIMIT_S, read=0.2))
    assert script.abandoned.get(timeout=LIMIT_S) == script.asked[0].request
