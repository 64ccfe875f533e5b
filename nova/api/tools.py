"""A call of a tool that must be made: the text is that call as JSON and nothing else, held by a grammar.

So it works with every model, also with one whose dialect knows no calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nova.api import grammar
from nova.api.errors import invalid
from nova.api.output import Part, Text, ToolCall


def forced(tools: Sequence[Mapping[str, Any]], name: str = "", param: str = "tools") -> str:
    """The grammar of a call of one of `tools` (in OpenAI's form), or of that with `name`. Raises ApiError."""
    functions = [tool["function"] for tool in tools if not name or tool["function"]["name"] == name]
    if not functions:
        raise invalid(f"no tool has the name {name!r}" if name else "there is no tool to call", "tool_choice")
    return grammar.of_schema({"anyOf": [_call(one, index) for index, one in enumerate(functions)]}, param, lenient=True)


def _call(function: Mapping[str, Any], index: int) -> dict[str, Any]:
    arguments = function.get("parameters") or {"type": "object"}
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            "arguments": _moved(arguments, f"#/anyOf/{index}/properties/arguments"),
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """A schema whose references into itself still hold when it stands at `place` of another one."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(item, place) for key, item in schema.items()}
    match moved.get("$ref"):
        case str(target) if target.startswith("#"):
            moved["$ref"] = place + target[1:]
    return moved


class ForcedCall:
    """As `nova.api.output.Splitter`, for a text under such a grammar: the call is given out at its end."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, text: str) -> list[Part]:
        self._text += text
        return []

    def end(self, cut: bool = False) -> list[Part]:
        """The call; the text as it is where a limit `cut` it."""
        if cut:
            return [Text(self._text)] if self._text else []
        try:
            call = json.loads(self._text)
            return [ToolCall(call["name"], json.dumps(call["arguments"], ensure_ascii=False))]
        except (ValueError, KeyError, TypeError):
            return [Text(self._text)] if self._text else []
