"""Items of the Responses API as chat templates know conversations. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from nova.api.openai.messages import arguments
from nova.api.responses.fields import (
    CallItem,
    CallOutputItem,
    Content,
    Create,
    Item,
    MessageItem,
    ReasoningItem,
    RefusalPart,
    Tool,
)

Message = dict[str, Any]
_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


def messages(given: str | Sequence[Item], before: Sequence[Message] = ()) -> list[Message]:
    """The conversation `before`, and the items after it. What the assistant said and called becomes one message, as
    long as nothing comes between."""
    told = list(before)
    names = {call["id"]: call["function"]["name"] for message in told for call in message.get("tool_calls", ())}
    for item in [MessageItem(role="user", content=given)] if isinstance(given, str) else given:
        match item:
            case MessageItem(role="assistant"):
                _join(told, "content", _text(item.content))
            case MessageItem():
                role = "system" if item.role == "developer" else item.role
                told.append({"role": role, "content": _text(item.content)})
            case ReasoningItem():
                _join(told, "reasoning_content", _text([*(item.content or item.summary)]))
            case CallItem():
                names[item.call_id] = item.name
                _call(told, item.call_id, item.name, arguments(item.arguments))
            case CallOutputItem():
                named = {"name": names[item.call_id]} if item.call_id in names else {}
                told.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output), **named})
    return told


def with_instructions(instructions: str | None, told: Sequence[Message]) -> list[Message]:
    """One system message in front: most templates take no second one there."""
    if not instructions:
        return list(told)
    if told and told[0]["role"] == "system":
        return [{"role": "system", "content": f"{instructions}\n\n{told[0]['content']}"}, *told[1:]]
    return [{"role": "system", "content": instructions}, *told]


def with_answer(told: Sequence[Message], output: Sequence[Message]) -> list[Message]:
    """The conversation and the model's turn in it: a response's output is input for the next."""
    return messages(_ITEMS.validate_python(list(output)), told)


def offered(body: Create) -> list[Message]:
    """The tools that the model is told of."""
    return [] if body.tool_choice == "none" else [_template_tool(tool) for tool in body.tools or []]


def _template_tool(tool: Tool) -> Message:
    function = tool.model_dump(exclude_none=True, exclude={"type"})
    return {"type": "function", "function": function}


def _assistant(told: list[Message]) -> Message:
    """A copy of the assistant's turn at the end, in its place, or a fresh one."""
    last = told.pop() if told and told[-1]["role"] == "assistant" else {"role": "assistant", "content": ""}
    told.append(dict(last))
    return told[-1]


def _join(told: list[Message], field: str, text: str) -> None:
    turn = _assistant(told)
    turn[field] = f"{turn[field]}\n{text}" if turn.get(field) else text


def _call(told: list[Message], call_id: str, name: str, given: Any) -> None:
    turn = _assistant(told)
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": given}}
    turn["tool_calls"] = [*turn.get("tool_calls", ()), call]


def _text(content: Content) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in content)
