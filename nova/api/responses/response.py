"""An answer as a response with output items, and as the events that build it up. Pure."""

from __future__ import annotations

from typing import Any

from nova.api.answer import Told
from nova.api.errors import ApiError
from nova.api.output import Text, Thought, ToolCall
from nova.api.responses.fields import Create
from nova.ids import new_request_id
from nova.wire.requests import Accepted, Completed, Piece
from nova.wire.work import Sampling

Event = dict[str, Any]

_TEXTS = {"message": "output_text", "reasoning": "reasoning_text"}
"""A kind of item -> the kind of its text."""


class Response:
    """What was told becomes events; `document` is the whole response so far. `created` is in Unix seconds."""

    def __init__(self, request: str, body: Create, model: str, sampling: Sampling, created: int) -> None:
        self.id = f"resp_{request}{new_request_id()}"  # twice as long: without keys, who knows it may read it
        self.output: list[dict[str, Any]] = []
        self._about = {"id": self.id, "object": "response", "created_at": created, "model": model} | _echo(
            body, sampling
        )
        self._state: dict[str, Any] = {
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "usage": None,
        }
        self._open = False  # whether the last item is a text that goes on
        self._texts: list[str] = []
        self._numbers = 0
        self._unread = 0  # tokens whose text has not come yet
        self._reasoned = 0

    @property
    def document(self) -> dict[str, Any]:
        """The whole response at this moment; an item in it may still change while it is in progress."""
        return {**self._about, "output": list(self.output), **self._state}

    @property
    def ended(self) -> bool:
        return bool(self._state["status"] != "in_progress")

    def tell(self, told: Told) -> list[Event]:
        match told:
            case Accepted():
                return [self._event("response.created", response=self.document),
                        self._event("response.in_progress", response=self.document)]  # fmt: skip
            case Piece():
                self._unread += len(told.tokens)
                return []
            case Text():
                self._unread = 0
                return self._add("message", {"role": "assistant"}, told.text)
            case Thought():
                self._reasoned, self._unread = self._reasoned + self._unread, 0
                return self._add("reasoning", {"summary": []}, told.text)
            case ToolCall():
                self._unread = 0
                return self._call(told)
            case Completed():
                return self._complete(told)

    def fail(self, error: ApiError) -> list[Event]:
        """The end of a stream that breaks."""
        closing = self._close("incomplete")
        self._state |= {"status": "failed", "error": {"code": "server_error", "message": error.message}}
        return [*closing, self._event("response.failed", response=self.document)]

    def _add(self, kind: str, about: dict[str, Any], text: str) -> list[Event]:
        events = []
        if not self._open or self.output[-1]["type"] != kind:
            events = [*self._close(), self._start(kind, {**about, "content": []})]
            self._open = True
            events.append(self._part_event("response.content_part.added", part=self._part("")))
        self._texts.append(text)
        return [*events, self._text_event("delta", delta=text)]

    def _call(self, call: ToolCall) -> list[Event]:
        about = {"call_id": f"call_{new_request_id()}", "name": call.name, "arguments": ""}
        events = [*self._close(), self._start("function_call", about)]
        kind = "response.function_call_arguments"
        events.append(self._item_event(f"{kind}.delta", delta=call.arguments))
        events.append(self._item_event(f"{kind}.done", name=call.name, arguments=call.arguments))
        self.output[-1]["arguments"] = call.arguments
        return [*events, self._done("completed")]

    def _complete(self, completed: Completed) -> list[Event]:
        status = "completed" if completed.finish == "stop" else "incomplete"
        closing = self._close(status)
        details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        usage = _usage(completed, min(self._reasoned, completed.completion_tokens))
        self._state |= {"status": status, "incomplete_details": details, "usage": usage}
        return [*closing, self._event(f"response.{status}", response=self.document)]

    def _start(self, kind: str, about: dict[str, Any]) -> Event:
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        item = {"id": f"{prefix}_{new_request_id()}", "type": kind, "status": "in_progress", **about}
        self.output.append(item)
        return self._event("response.output_item.added", output_index=len(self.output) - 1, item=dict(item))

    def _close(self, status: str = "completed") -> list[Event]:
        if not self._open:
            return []
        self._open = False
        text, self._texts = "".join(self._texts), []
        part = self._part(text)
        done = [self._text_event("done", text=text), self._part_event("response.content_part.done", part=part)]
        self.output[-1]["content"] = [part]
        return [*done, self._done(status)]

    def _done(self, status: str) -> Event:
        self.output[-1]["status"] = status
        item = dict(self.output[-1])
        return self._event("response.output_item.done", output_index=len(self.output) - 1, item=item)

    def _part(self, text: str) -> dict[str, Any]:
        kind = _TEXTS[self.output[-1]["type"]]
        rest: dict[str, Any] = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
        return {"type": kind, "text": text, **rest}

    def _text_event(self, step: str, **rest: Any) -> Event:
        kind = _TEXTS[self.output[-1]["type"]]
        logprobs: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        return self._part_event(f"response.{kind}.{step}", **rest, **logprobs)

    def _part_event(self, kind: str, **rest: Any) -> Event:
        return self._item_event(kind, content_index=0, **rest)

    def _item_event(self, kind: str, **rest: Any) -> Event:
        return self._event(kind, item_id=self.output[-1]["id"], output_index=len(self.output) - 1, **rest)

    def _event(self, kind: str, **rest: Any) -> Event:
        self._numbers += 1
        return {"type": kind, "sequence_number": self._numbers - 1, **rest}


def _echo(body: Create, sampling: Sampling) -> dict[str, Any]:
    """What a response repeats of its request."""
    reasoning = body.reasoning
    shape = (body.text and body.text.format and body.text.format.model_dump(by_alias=True, exclude_none=True)) or {
        "type": "text"
    }
    choice = body.tool_choice or "auto"
    return {
        "background": False,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": reasoning and reasoning.effort, "summary": None},
        "store": body.store is not False,
        "temperature": sampling.temperature,
        "text": {"format": shape},
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
        "tools": [dict(tool) for tool in body.tools or []],
        "top_p": sampling.top_p,
        "truncation": body.truncation or "disabled",
        "user": body.user,
    }


def _usage(completed: Completed, reasoned: int) -> dict[str, Any]:
    """`reasoned` tokens had text that was reasoning."""
    read, written = completed.prompt_tokens, completed.completion_tokens
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": completed.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": read + written,
    }
