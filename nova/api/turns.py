"""A conversation as chat templates know it, from the blocks or items of an API. Pure.

Neighbours of one role become one message: many templates want the roles to alternate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass
class _Turn:
    role: str
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Message] = field(default_factory=list)

    def message(self) -> Message:
        message: Message = {"role": self.role, "content": "\n".join(self.texts)}
        if self.thoughts:
            message["reasoning_content"] = "\n".join(self.thoughts)
        if self.calls:
            message["tool_calls"] = self.calls
        return message


class Turns:
    """What is said, after the messages `before`, which stay as they are."""

    def __init__(self, before: Sequence[Message] = ()) -> None:
        self._messages = list(before)
        self._turn: _Turn | None = None
        self._names = {call["id"]: call["function"]["name"] for one in before for call in one.get("tool_calls", ())}

    def say(self, role: str, text: str) -> None:
        self._of(role).texts.append(text)

    def think(self, text: str) -> None:
        self._of("assistant").thoughts.append(text)

    def call(self, call_id: str, name: str, arguments: Any) -> None:
        """`arguments` are an object; the text that a model wrote in its place, where it is none."""
        self._names[call_id] = name
        call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        self._of("assistant").calls.append(call)

    def result(self, call_id: str, text: str) -> None:
        """Of a call, with the tool's name if that call is part of the conversation."""
        self._end()
        named = {"name": self._names[call_id]} if call_id in self._names else {}
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": text, **named})

    def messages(self) -> list[Message]:
        """The whole conversation, once all is said."""
        self._end()
        return self._messages

    def _of(self, role: str) -> _Turn:
        if self._turn is None or self._turn.role != role:
            self._end()
            self._turn = _Turn(role)
        return self._turn

    def _end(self) -> None:
        if self._turn is not None:
            self._messages.append(self._turn.message())
        self._turn = None
