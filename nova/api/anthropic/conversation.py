"""Anthropic's messages as chat templates know conversations. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nova.api.anthropic.fields import (
    AssistantMessage,
    Counted,
    SystemMessage,
    TextBlock,
    Texts,
    ThinkingBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from nova.api.errors import invalid
from nova.api.port import Chat
from nova.model.dialect import Dialect

Message = dict[str, Any]


def conversation(asked: Counted, dialect: Dialect, constrained: bool = False) -> Chat:
    """The whole prompt. Reasoning is off where the request does not ask for it, as in Anthropic's API, and where the
    answer is `constrained`. Raises ApiError for a conversation that ends with the assistant's turn."""
    if asked.messages[-1].role == "assistant":
        raise invalid("the last message must be the user's: an answer cannot be begun for the model", "messages")
    messages: list[Message] = [{"role": "system", "content": _text(asked.system)}] if asked.system else []
    names: dict[str, str] = {}
    for message in asked.messages:
        for one in _told(message, names):
            _append(messages, one)
    offered = [] if asked.tool_choice and asked.tool_choice.type == "none" else asked.tools or []
    options = {"enable_thinking": asked.thinks and not constrained} if dialect.thought else {}
    return Chat(messages, [template_tool(tool) for tool in offered], options)


def template_tool(tool: Tool) -> Message:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": function}


def _told(message: UserMessage | AssistantMessage | SystemMessage, names: dict[str, str]) -> Iterator[Message]:
    """`names` of the tools by the ids of their calls so far."""
    match message:
        case UserMessage():
            yield from _user(message, names)
        case AssistantMessage():
            yield _assistant(message, names)
        case SystemMessage():
            yield {"role": "system", "content": _text(message.content)}


def _user(message: UserMessage, names: dict[str, str]) -> Iterator[Message]:
    """Results of tools are messages of their own."""
    if isinstance(message.content, str):
        yield {"role": "user", "content": message.content}
        return
    for block in message.content:
        if isinstance(block, ToolResultBlock):
            yield _result(block, names)
        else:
            yield {"role": "user", "content": block.text}


def _result(block: ToolResultBlock, names: dict[str, str]) -> Message:
    text = _text(block.content)
    named = {"name": names[block.tool_use_id]} if block.tool_use_id in names else {}
    content = f"Error: {text}" if block.is_error else text
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content, **named}


def _assistant(message: AssistantMessage, names: dict[str, str]) -> Message:
    if isinstance(message.content, str):
        return {"role": "assistant", "content": message.content}
    texts, thoughts, calls = [], [], []
    for block in message.content:
        match block:
            case TextBlock():
                texts.append(block.text)
            case ThinkingBlock():
                thoughts.append(block.thinking)
            case ToolUseBlock():
                names[block.id] = block.name
                function = {"name": block.name, "arguments": block.input}
                calls.append({"id": block.id, "type": "function", "function": function})
    found: Message = {"role": "assistant", "content": "\n".join(texts)}
    if thoughts:
        found["reasoning_content"] = "\n".join(thoughts)
    if calls:
        found["tool_calls"] = calls
    return found


def _append(messages: list[Message], message: Message) -> None:
    """Neighbours of the user or of the assistant become one message, as in Anthropic's API."""
    last = messages[-1] if messages else {}
    if message["role"] == last.get("role") and message["role"] in ("user", "assistant"):
        for field in ("content", "reasoning_content"):
            if field in message:
                last[field] = f"{last[field]}\n{message[field]}" if last.get(field) else message[field]
        if "tool_calls" in message:
            last["tool_calls"] = [*last.get("tool_calls", ()), *message["tool_calls"]]
    else:
        messages.append(message)


def _text(texts: Texts) -> str:
    return texts if isinstance(texts, str) else "\n".join(block.text for block in texts)
