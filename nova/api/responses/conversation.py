"""Items of the Responses API as chat templates know conversations. Pure."""

from __future__ import annotations

from collections.abc import Sequence

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
from nova.api.turns import Message, Turns

_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


def messages(given: str | Sequence[Item], before: Sequence[Message] = ()) -> list[Message]:
    """The conversation `before`, and the items after it."""
    turns = Turns(before)
    for item in [MessageItem(role="user", content=given)] if isinstance(given, str) else given:
        match item:
            case MessageItem():
                turns.say("system" if item.role == "developer" else item.role, _text(item.content))
            case ReasoningItem():
                turns.think(_text([*(item.content or item.summary)]))
            case CallItem():
                turns.call(item.call_id, item.name, arguments(item.arguments))
            case CallOutputItem():
                turns.result(item.call_id, _text(item.output))
    return turns.messages()


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
    told = {name: value for name, value in tool if name != "type" and value is not None}
    return {"type": "function", "function": told}


def _text(content: Content) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in content)
