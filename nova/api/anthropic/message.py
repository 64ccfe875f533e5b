"""An answer as a message of content blocks, and as the events that build it up. Pure."""

from __future__ import annotations

import json
from typing import Any

from nova.api.answer import Told
from nova.api.output import Text, Thought, ToolCall
from nova.ids import new_request_id
from nova.wire.requests import Accepted, Completed, Piece

Event = dict[str, Any]


class Message:
    """What was told becomes events; `document` is the whole message so far. Its id is the `request`'s, by which it can
    be traced. Without `thinking` reasoning is left out, as Anthropic's API does where it was not asked for. `limited`
    says that the request's own limit is the least."""

    def __init__(self, request: str, model: str, thinking: bool, limited: bool = True) -> None:
        self._thinking = thinking
        self._limited = limited
        self._content: list[dict[str, Any]] = []
        self._open = ""  # the kind of the block that deltas go to, and its text so far
        self._texts: list[str] = []
        self._head = {"id": f"msg_{request}", "type": "message", "role": "assistant", "model": model}
        self._usage = _usage(0, 0, 0)
        self._end: dict[str, str | None] = {"stop_reason": None, "stop_sequence": None}

    @property
    def document(self) -> dict[str, Any]:
        return {**self._head, "content": list(self._content), **self._end, "usage": self._usage}

    def tell(self, told: Told) -> list[Event]:
        match told:
            case Accepted():
                self._usage = _usage(told.prompt_tokens, 0, 0)
                return [{"type": "message_start", "message": self.document}, {"type": "ping"}]
            case Piece():
                return []
            case Text():
                return self._add("text", told.text, {})
            case Thought():
                return self._add("thinking", told.text, {"signature": ""}) if self._thinking else []
            case ToolCall():
                return self._call(told)
            case Completed():
                return self._complete(told)

    def _add(self, kind: str, text: str, rest: dict[str, str]) -> list[Event]:
        """To a block of `kind`, which is also the name of its text."""
        events = [] if self._open == kind else [*self._close(), self._start({"type": kind, kind: "", **rest})]
        self._open = kind
        self._texts.append(text)
        return [*events, self._delta({"type": f"{kind}_delta", kind: text})]

    def _call(self, call: ToolCall) -> list[Event]:
        block = {"type": "tool_use", "id": f"toolu_{new_request_id()}", "name": call.name, "input": {}}
        events = [*self._close(), self._start(block)]
        events.append(self._delta({"type": "input_json_delta", "partial_json": call.arguments}))
        self._content[-1]["input"] = json.loads(call.arguments)
        self._open = "tool_use"
        return [*events, *self._close()]

    def _complete(self, completed: Completed) -> list[Event]:
        events = self._close()
        self._usage = _usage(completed.prompt_tokens, completed.cached_tokens, completed.completion_tokens)
        self._end = {"stop_reason": self._reason(completed), "stop_sequence": completed.stopped_by or None}
        return [
            *events,
            {"type": "message_delta", "delta": self._end, "usage": self._usage},
            {"type": "message_stop"},
        ]

    def _reason(self, completed: Completed) -> str:
        if completed.finish != "stop":
            return "max_tokens" if self._limited else "model_context_window_exceeded"
        if completed.stopped_by:
            return "stop_sequence"
        called = any(block["type"] == "tool_use" for block in self._content)
        return "tool_use" if called else "end_turn"

    def _start(self, block: dict[str, Any]) -> Event:
        self._content.append(dict(block))
        return {"type": "content_block_start", "index": len(self._content) - 1, "content_block": block}

    def _delta(self, delta: dict[str, str]) -> Event:
        return {"type": "content_block_delta", "index": len(self._content) - 1, "delta": delta}

    def _close(self) -> list[Event]:
        if not self._open:
            return []
        block = self._content[-1]
        if self._open in block:
            block[self._open] = "".join(self._texts)
        self._open, self._texts = "", []
        return [{"type": "content_block_stop", "index": len(self._content) - 1}]


def _usage(prompt: int, cached: int, completion: int) -> dict[str, int]:
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": completion,
    }
