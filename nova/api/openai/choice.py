"""One choice of a chat, from the model's pieces to OpenAI's deltas, or to the message they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nova.api.answer import Reader
from nova.api.openai.logprobs import TokenTexts
from nova.api.output import Part, Text, Thought, ToolCall
from nova.ids import new_request_id
from nova.wire.requests import Completed, Piece

FINISH = {"stop": "stop", "length": "length", "cancelled": "stop"}
"""Completed.finish -> finish_reason."""


@dataclass(frozen=True)
class Delta:
    """What a chunk adds to a message, and the log-probabilities of the tokens since the last chunk."""

    message: dict[str, Any]
    logprobs: list[dict[str, Any]] | None = None
    finish: str | None = None

    def chunk(self, index: int) -> dict[str, Any]:
        logprobs = {"logprobs": {"content": self.logprobs}} if self.logprobs else {}
        return {"index": index, "delta": self.message, **logprobs, "finish_reason": self.finish}


class Choice:
    """`reader` splits the model's text into parts; `texts` knows what tokens are called."""

    def __init__(self, index: int, reader: Reader, texts: TokenTexts) -> None:
        self._index = index
        self._reader = reader
        self._texts = texts
        self._calls = 0
        self._waiting: list[dict[str, Any]] = []  # log-probabilities of tokens whose text is held back
        self._deltas: list[Delta] = []
        self.completed: Completed  # once the text has ended

    async def piece(self, piece: Piece) -> list[Delta]:
        self._waiting += [await self._texts.chat(one) for one in piece.logprobs]
        return self._told(self._reader.add(piece.text))

    def end(self, completed: Completed) -> list[Delta]:
        self.completed = completed
        # Half a call may look whole where something else than the model ended it.
        cut = completed.finish != "stop" or bool(completed.stopped_by)
        deltas = self._told(self._reader.end(cut))
        finish = FINISH[completed.finish]
        if self._calls and finish == "stop":
            finish = "tool_calls"
        return [*deltas, Delta({}, self._taken(), finish)]

    def keep(self, deltas: Sequence[Delta]) -> None:
        """For `whole`."""
        self._deltas += deltas

    def whole(self) -> dict[str, Any]:
        """All that was kept, as one choice."""
        messages = [delta.message for delta in self._deltas]
        calls = [call for message in messages for call in message.get("tool_calls", ())]
        content = "".join(message.get("content", "") for message in messages)
        reasoning = "".join(message.get("reasoning_content", "") for message in messages)
        told: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else ""), "refusal": None}
        if reasoning:
            told["reasoning_content"] = reasoning
        if calls:
            told["tool_calls"] = [{key: value for key, value in call.items() if key != "index"} for call in calls]
        logprobs = [one for delta in self._deltas for one in delta.logprobs or ()]
        return {
            "index": self._index,
            "message": told,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": self._deltas[-1].finish,
        }

    def _told(self, parts: Sequence[Part]) -> list[Delta]:
        return [Delta(self._message(part), self._taken()) for part in parts]

    def _taken(self) -> list[dict[str, Any]] | None:
        taken, self._waiting = self._waiting, []
        return taken or None

    def _message(self, part: Part) -> dict[str, Any]:
        match part:
            case Text(text):
                return {"content": text}
            case Thought(text):
                return {"reasoning_content": text}
            case ToolCall(name, arguments):
                self._calls += 1
                function = {"name": name, "arguments": arguments}
                call = {"index": self._calls - 1, "id": f"call_{new_request_id()}", "type": "function"}
                return {"tool_calls": [{**call, "function": function}]}
