"""The official `openai` client's Responses API, over a socket, against a model that says what the tests tell it to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.unit.api.fake import LIMIT_S, MODEL
from tests.unit.api.scripted import BUSY, Script, serving

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
JSON = {"content-type": "application/json"}
HELLO: Any = {"model": MODEL, "input": "Hi"}


@pytest.fixture(scope="module")
def playing() -> Iterator[tuple[Script, str]]:
    with serving() as found:
        yield found


@pytest.fixture
def port(playing: tuple[Script, str]) -> Script:
    return playing[0]


@pytest.fixture
def client(playing: tuple[Script, str]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{playing[1]}/v1", api_key="unused", max_retries=0, timeout=LIMIT_S) as client:
        yield client


@pytest.fixture
def web(playing: tuple[Script, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=playing[1], timeout=LIMIT_S) as web:
        yield web


def nameless(item: Any) -> dict[str, Any]:
    """An output item without what is random in it."""
    return {key: value for key, value in item.to_dict().items() if key not in ("id", "call_id")}


def test_a_response_and_its_account(port: Script, client: openai.OpenAI) -> None:
    script = port.play("Hel", "lo!", cached=5)
    response = client.responses.create(
        **HELLO, instructions="Be brief.", temperature=0.5, top_p=0.9, max_output_tokens=9, metadata={"a": "b"}
    )
    assert (response.output_text, response.status, response.model) == ("Hello!", "completed", MODEL)
    assert (response.instructions, response.metadata, response.max_output_tokens) == ("Be brief.", {"a": "b"}, 9)
    [ask] = script.asked
    assert response.usage is not None
    assert response.usage.to_dict() == {
        "input_tokens": len(ask.prompt),
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": len(ask.prompt) + 2,
    }
    assert (ask.max_tokens, ask.sampling.temperature, ask.sampling.top_p) == (9, 0.5, 0.9)
    assert script.last_chat == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_a_stream_builds_up_the_same_response(port: Script, client: openai.OpenAI) -> None:
    port.play("<think>so", " be it</think>", "Let me", " see.", CALL, cached=5)
    with client.responses.stream(**HELLO, tools=[WEATHER]) as stream:
        built = [event.item for event in stream if event.type == "response.output_item.done"]
        streamed = stream.get_final_response()
    response = client.responses.create(**HELLO, tools=[WEATHER])
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert [nameless(item) for item in built] == [nameless(item) for item in response.output]
    assert [item.to_dict()["id"] for item in streamed.output] == [item.to_dict()["id"] for item in built]
    assert streamed.usage is not None
    assert streamed.usage == response.usage
    assert streamed.usage.output_tokens_details.reasoning_tokens == 2


def test_events_come_in_the_order_of_the_api(port: Script, web: httpx.Client) -> None:
    port.play("<think>so</think>", "Hi", " there", CALL)
    answer = web.post("/v1/responses", json={**HELLO, "stream": True, "tools": [WEATHER]})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [one.split("\n", 1) for one in answer.text.strip().split("\n\n")]
    documents = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [name.removeprefix("event: ") for name, _ in events] == [one["type"] for one in documents]
    assert [one["sequence_number"] for one in documents] == list(range(len(documents)))
    told = [(one["type"].removeprefix("response."), one.get("output_index")) for one in documents]
    assert told == [
        ("created", None),
        ("in_progress", None),
        ("output_item.added", 0),
        ("content_part.added", 0),
        ("reasoning_text.delta", 0),
        ("reasoning_text.done", 0),
        ("content_part.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("content_part.added", 1),
        ("output_text.delta", 1),
        ("output_text.delta", 1),
        ("output_text.done", 1),
        ("content_part.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("function_call_arguments.delta", 2),
        ("function_call_arguments.done", 2),
        ("output_item.done", 2),
        ("completed", None),
    ]
    added, done = documents[8], documents[14]
    assert (added["item"]["status"], added["item"]["content"]) == ("in_progress", [])
    assert (done["item"]["status"], done["item"]["content"][0]["text"]) == ("completed", "Hi there")
    assert documents[0]["response"]["status"] == documents[1]["response"]["status"] == "in_progress"
    assert documents[-1]["response"]["output"][1] == done["item"]


def test_tools_go_there_and_back(port: Script, client: openai.OpenAI) -> None:
    script = port.play("<think>hm</think>I'll look.", CALL, CALL)
    first = client.responses.create(**HELLO, tools=[WEATHER])
    assert script.chats[-1].tools == [
        {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": False}}
    ]
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [("weather", '{"city": "Köln"}')] * 2
    results: Any = [
        {"type": "function_call_output", "call_id": calls[0].call_id, "output": "a"},
        {
            "type": "function_call_output",
            "call_id": calls[1].call_id,
            "output": [{"type": "input_text", "text": "b"}],
        },
    ]
    function = {"name": "weather", "arguments": {"city": "Köln"}}
    expected = [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "content": "I'll look.",
            "tool_calls": [{"id": call.call_id, "type": "function", "function": function} for call in calls],
        },
        {"role": "tool", "tool_call_id": calls[0].call_id, "content": "a", "name": "weather"},
        {"role": "tool", "tool_call_id": calls[1].call_id, "content": "b", "name": "weather"},
    ]
    whole: Any = [{"role": "user", "content": "Hi"}, *[item.to_dict() for item in first.output], *results]
    client.responses.create(model=MODEL, input=whole, tools=[WEATHER])
    assert script.last_chat == expected
    client.responses.create(model=MODEL, input=results, tools=[WEATHER], previous_response_id=first.id)
    assert script.last_chat == expected


def test_all_roles_and_texts_are_read(port: Script, client: openai.OpenAI) -> None:
    script = port.play("Hi")
    items: Any = [
        {"role": "developer", "content": "a"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}] * 2},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "c"}]},
        {"role": "user", "content": "d"},
        {"role": "user", "content": "f"},
    ]
    client.responses.create(model=MODEL, input=items, instructions="e")
    assert [(one["role"], one["content"]) for one in script.last_chat] == [
        ("system", "e\n\na"),
        ("user", "bb"),
        ("assistant", "c"),
        ("user", "d\nf"),
    ]


def test_a_conversation_goes_on_without_its_instructions(port: Script, client: openai.OpenAI) -> None:
    script = port.play("Hello")
    first = client.responses.create(**HELLO, instructions="Be brief.")
    second = client.responses.create(model=MODEL, input="And?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert [(one["role"], one["content"]) for one in script.last_chat] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "And?"),
    ]


@pytest.mark.parametrize("length", [256, 257])
def test_a_call_that_no_tool_could_have_is_text(port: Script, client: openai.OpenAI, length: int) -> None:
    text = json.dumps({"name": "x" * length, "arguments": {}})
    port.play(f"<tool_call>{text}</tool_call>")
    first = client.responses.create(**HELLO, tools=[WEATHER])
    assert [item.type for item in first.output] == ["function_call" if length == 256 else "message"]
    assert client.responses.create(model=MODEL, input="And?", previous_response_id=first.id).status == "completed"


@pytest.mark.parametrize("stream", [False, True])
def test_responses_are_remembered_until_deleted(port: Script, client: openai.OpenAI, stream: bool) -> None:
    port.play("Hello")
    if stream:
        with client.responses.stream(**HELLO) as events:
            name = events.get_final_response().id
    else:
        name = client.responses.create(**HELLO).id
    assert client.responses.retrieve(name).output_text == "Hello"
    client.responses.delete(name)
    for ask in (client.responses.retrieve, client.responses.delete):
        with pytest.raises(openai.NotFoundError, match="remembered"):
            ask(name)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**HELLO, previous_response_id=name)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


def test_a_response_that_is_not_to_be_stored_is_forgotten(port: Script, client: openai.OpenAI) -> None:
    port.play("Hello")
    response = client.responses.create(**HELLO, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_an_answer_that_is_cut_is_incomplete(port: Script, client: openai.OpenAI) -> None:
    port.play("Hello", finish="length")
    response = client.responses.create(**HELLO)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    [item] = response.output
    assert item.type == "message"
    assert item.status == "incomplete"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
@pytest.mark.parametrize("in_thought", [False, True])
def test_a_call_may_be_forced(port: Script, client: openai.OpenAI, choice: Any, in_thought: bool) -> None:
    thought = "so</think>" if in_thought else ""
    script = port.play(f'{thought}{{"name": "weather", "arguments": {{"city": "Bonn"}}}}', in_thought=in_thought)
    response = client.responses.create(**HELLO, tools=[WEATHER], tool_choice=choice)
    assert [item.type for item in response.output] == ["reasoning"] * in_thought + ["function_call"]
    assert '"weather"' in script.asked[0].grammar
    assert script.chats[0].options == {"enable_thinking": False}


def test_tools_that_may_not_be_used_are_not_told(port: Script, client: openai.OpenAI) -> None:
    script = port.play(CALL)
    response = client.responses.create(**HELLO, tools=[WEATHER], tool_choice="none")
    assert response.output_text == CALL
    assert script.chats[-1].tools == []


def test_an_answer_may_follow_a_schema(port: Script, client: openai.OpenAI) -> None:
    script = port.play('{"city": "Bonn"}')
    shape: Any = {"format": {"type": "json_schema", "name": "place", "schema": PARAMETERS, "strict": True}}
    response = client.responses.create(**HELLO, text=shape)
    assert response.output_text == '{"city": "Bonn"}'
    assert response.text is not None
    assert response.text.to_dict() == shape
    assert '"city"' in script.asked[0].grammar


@pytest.mark.parametrize(
    ("effort", "options"),
    [
        (None, {}),
        ("none", {"enable_thinking": False}),
        ("low", {"reasoning_effort": "low", "enable_thinking": True}),
    ],
)
def test_effort_is_told_to_the_template(
    port: Script, client: openai.OpenAI, effort: Any, options: dict[str, Any]
) -> None:
    script = port.play("Hi")
    client.responses.create(**HELLO, reasoning={"effort": effort})
    assert script.chats[-1].options == options


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"max_output_tokens": "9"}, "max_output_tokens"),
        ({"background": True}, "background"),
        ({"conversation": "x"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": 5}}}}, "text.format.schema"),
        ({"temperature": float("inf")}, "temperature"),
    ],
)
def test_what_is_wrong_is_named(port: Script, web: httpx.Client, change: dict[str, Any], param: str) -> None:
    script = port.play("Hi")
    answer = web.post("/v1/responses", content=json.dumps({**HELLO, **change}), headers=JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"].startswith(param)
    assert script.asked == []


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=MODEL):
        client.responses.create(model="gpt-other", input="Hi")


@pytest.mark.parametrize("stream", [False, True])
def test_a_busy_server_says_when_to_try_again(port: Script, web: httpx.Client, stream: bool) -> None:
    port.play(failure=BUSY)
    answer = web.post("/v1/responses", json={**HELLO, "stream": stream})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")


def test_a_stream_that_breaks_ends_with_a_failed_response(port: Script, client: openai.OpenAI) -> None:
    port.play("Hel", breaks="node-2 is gone")
    *_, done, failed = client.responses.create(**HELLO, stream=True)
    assert done.type == "response.output_item.done"
    assert failed.type == "response.failed"
    assert (failed.response.status, failed.response.output_text) == ("failed", "Hel")
    assert failed.response.error is not None
    assert "node-2" in failed.response.error.message
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(failed.response.id)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_abandons_the_request(port: Script, playing: tuple[Script, str], stream: bool) -> None:
    script = port.play(held=True)
    with httpx.Client(base_url=playing[1]) as web, pytest.raises(httpx.ReadTimeout):
        web.post("/v1/responses", json={**HELLO, "stream": stream}, timeout=httpx.Timeout(LIMIT_S, read=0.2))
    assert script.abandoned.get(timeout=LIMIT_S) == script.asked[0].request
