"""Grammars, read by llguidance with bytes as tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from nova.api.errors import ApiError
from nova.api.grammar import of_format, of_schema
from nova.api.output import Text, ToolCall
from nova.api.tools import ForcedCall, forced

BYTES = LLTokenizer("byte")
CITY = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/name"}},
    "$defs": {"name": {"enum": ["Ulm", "Bonn"]}},
}
STRICT = {**CITY, "required": ["city"], "additionalProperties": False}


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **({"parameters": parameters} if parameters else {})}}


def fits(grammar: str, text: str) -> bool:
    matcher, tokens = LLMatcher(BYTES, grammar), list(text.encode())
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


@pytest.mark.parametrize(
    ("text", "right"),
    [("{}", True), ('{"a": 1, "b":[2,3]}', True), ('{ "a":1}', False), ('{"a":  1}', False), ("[]", False)],
)
def test_a_json_object_has_one_space_at_most(text: str, right: bool) -> None:
    assert fits(of_format({"type": "json_object"}), text) is right


def test_a_schema_cannot_bring_its_own_white_space() -> None:
    grammar = of_schema({"type": "object", "x-guidance": {"whitespace_flexible": True}}, "schema")
    assert not fits(grammar, '{"a":\n\n\n1}')


def test_a_schema_is_followed() -> None:
    grammar = of_format({"type": "json_schema", "json_schema": {"schema": STRICT}})
    assert fits(grammar, '{"city": "Ulm"}')
    assert not fits(grammar, '{"city": "Rome"}')


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "foo"}, "Invalid type: foo"),
        ({"type": "string", "pattern": "("}, "unclosed group"),
        ({"$ref": "http://example.org/schema"}, "not present"),
        ({"not": {"type": "string"}}, "Unimplemented keys"),
        ({"anyOf": [{"properties": {f"p{n}": {"type": "string"} for n in range(50)}}] * 500}, "too large"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused_with_the_reason(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiError, match=why) as caught:
        of_schema(schema, "here")
    assert (caught.value.status, caught.value.param) == (400, "here")
    assert "\n" not in caught.value.message


def test_a_call_of_any_tool_or_of_one() -> None:
    tools = [tool("weather", STRICT), tool("time")]
    either, one = forced(tools), forced(tools, "time")
    weather, time = '{"name": "weather", "arguments": {"city": "Bonn"}}', '{"name": "time", "arguments": {}}'
    assert fits(either, weather)
    assert fits(either, time)
    assert not fits(one, weather)
    assert fits(one, time)
    assert not fits(either, '{"name": "weather", "arguments": {"city": "Rome"}}')
    assert not fits(either, '{"name": "other", "arguments": {}}')


def test_parameters_with_keys_that_are_not_known_are_followed_as_far_as_they_are() -> None:
    grammar = forced([tool("f", {"type": "object", "not": {"required": ["b"]}})])
    assert fits(grammar, '{"name": "f", "arguments": {"b": 1}}')


def test_a_forced_call_is_read_at_its_end_and_what_is_none_is_text() -> None:
    call, cut = ForcedCall(), ForcedCall()
    for piece in ('{"name": "f", "argu', 'ments": {"a": "é"}}'):
        assert call.add(piece) == []
        cut.add(piece)
    assert call.end() == [ToolCall("f", json.dumps({"a": "é"}, ensure_ascii=False))]
    assert cut.end(cut=True) == [Text('{"name": "f", "arguments": {"a": "é"}}')]
    assert ForcedCall().end() == []
    wrong = ForcedCall()
    wrong.add("[1]")
    assert wrong.end() == [Text("[1]")]
