"""Anthropic's messages as chat templates know conversations. Pure."""

from __future__ import annotations

from nova.api.anthropic.fields import (
    AssistantBlock,
    Counted,
    RedactedThinkingBlock,
    TextBlock,
    Texts,
    ThinkingBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
    UserBlock,
)
from nova.api.errors import invalid
from nova.api.turns import Message, Turns
from nova.coordinator.port import Chat
from nova.model.dialect import Dialect


def conversation(asked: Counted, dialect: Dialect, constrained: bool = False) -> Chat:
    """The whole prompt. Reasoning is off where the request does not ask for it, and where the answer is `constrained`.
    Raises ApiError for a conversation that ends with the assistant's turn."""
    if asked.messages[-1].role == "assistant":
        raise invalid("the last message must be the user's: an answer cannot be begun for the model", "messages")
    turns = Turns()
    if asked.system:
        turns.say("system", _text(asked.system))
    for message in asked.messages:
        if isinstance(message.content, str):
            turns.say(message.role, message.content)
        else:
            for block in message.content:
                _add(turns, message.role, block)
    offered = [] if asked.tool_choice and asked.tool_choice.type == "none" else asked.tools or []
    options = {"enable_thinking": asked.thinks and not constrained} if dialect.thought else {}
    return Chat(turns.messages(), [template_tool(tool) for tool in offered], options)


def template_tool(tool: Tool) -> Message:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": function}


def _add(turns: Turns, role: str, block: UserBlock | AssistantBlock) -> None:
    match block:
        case TextBlock():
            turns.say(role, block.text)
        case ThinkingBlock():
            turns.think(block.thinking)
        case ToolUseBlock():
            turns.call(block.id, block.name, block.input)
        case ToolResultBlock():
            text = _text(block.content)
            turns.result(block.tool_use_id, f"Error: {text}" if block.is_error else text)
        case RedactedThinkingBlock():
            pass  # nobody can read it here


def _text(texts: Texts) -> str:
    return texts if isinstance(texts, str) else "\n".join(block.text for block in texts)
