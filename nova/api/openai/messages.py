"""Messages and tools of a chat request, and their form for a chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from nova.api.errors import invalid
from nova.api.openai.fields import Body, JsonObject, Name

MAX_MESSAGES = 4096
MAX_TOOLS = 128
MAX_PARTS = 4096


class Part(Body):
    """A piece of a message. Only text is read."""

    type: Name
    text: str | None = None


class CalledFunction(Body):
    name: Name
    arguments: str = Field(description="a JSON object")


class Call(Body):
    id: Name = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(fail_fast=True, max_length=MAX_PARTS)] | None = None
    name: Name | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[Call], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Name | None = None


class Function(Body):
    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    name: Name


class NamedTool(Body):
    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["auto", "none", "required"] | NamedTool


Messages = Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
Tools = Annotated[list[Tool], Field(fail_fast=True, max_length=MAX_TOOLS)]


def for_template(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Dicts as chat templates know them. Raises ApiError for what is not text."""
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def tools_for_template(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """As the client gave them, without what is left out; schemas may be large and are not copied."""
    told = [{name: value for name, value in tool.function if value is not None} for tool in tools]
    return [{"type": "function", "function": one} for one in told]


def _message(message: ChatMessage, where: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _text(message.content, where),
    }
    for key in ("name", "reasoning_content", "tool_call_id"):
        if (value := getattr(message, key)) is not None:
            told[key] = value
    if message.tool_calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function",
             "function": {"name": call.function.name, "arguments": arguments(call.function.arguments)}}
            for call in message.tool_calls
        ]  # fmt: skip
    return told


def _text(content: str | list[Part] | None, where: str) -> str:
    if not isinstance(content, list):
        return content or ""
    for index, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise invalid(f"{part.type} parts are not read, text is", f"{where}.content[{index}].type")
    return "".join(part.text or "" for part in content)


def arguments(text: str) -> Any:
    """A call's arguments as the object that templates expect; the text itself where a model wrote no object."""
    try:
        read = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return read if isinstance(read, dict) else text
