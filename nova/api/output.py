"""A model's text, split into text, reasoning and calls of tools while it comes. Pure.

Markers may be cut anywhere between pieces, so what may be the start of one is held back. Nothing is lost: where a call
cannot be parsed its start marker was plain text, and what follows is read again. White space between a marker and its
surroundings is layout of the dialect and belongs to no part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nova.model.dialect import Dialect

_MAX_NAME = 256
"""Characters; no tool on offer has a longer name, and a conversation with one could not go on."""
_MAX_FAILED = 64
"""A text with so many starts of calls that were none has no calls: reading again costs its length each time."""


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Thought:
    """Reasoning, without its markers."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """`arguments` is the text of a JSON object."""

    name: str
    arguments: str


Part = Text | Thought | ToolCall


class Splitter:
    """`tools` are those of the request, as chat templates know them; without any, calls are plain text. `in_thought`
    says that the prompt has opened the reasoning already; `once` that there is no other, so that its start is text."""

    def __init__(
        self,
        dialect: Dialect,
        in_thought: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        once: bool = False,
    ) -> None:
        self._thought = dialect.thought
        self._once = once
        self._parse = dialect.parse
        self._call = dialect.call if tools and dialect.parse else None
        self._failed = 0
        self._layout = bool(self._thought or self._call)
        self._tools = tools
        self._part: type[Text] | type[Thought] = Thought if in_thought and self._thought else Text
        self._body: list[str] | None = None  # of the call that is open
        self._held = ""  # may be the start of a marker
        self._gap = ""  # white space that may turn out to stand before a marker
        self._fresh = self._part is Thought  # only white space since the last marker

    def add(self, text: str) -> list[Part]:
        """The parts that became certain with this piece; a part may go on in the next one of its kind."""
        parts: list[Part] = []
        self._held += text
        while found := _first(self._held, self._markers()):
            at, marker = found
            before, self._held = self._held[:at], self._held[at + len(marker) :]
            self._take(before, parts)
            self._cross(marker, parts)
        certain = len(self._held) - _overhang(self._held, self._markers())
        ready, self._held = self._held[:certain], self._held[certain:]
        self._take(ready, parts)
        return parts

    def end(self, cut: bool = False) -> list[Part]:
        """The rest. An open call counts if it parses; not where a limit `cut` the text, since some dialects parse
        half a call."""
        parts: list[Part] = []
        while self._body is not None:
            self._body.append(self._held)
            self._held = ""
            self._close("", parts, cut)
            parts += self.add("")
        self._take(self._held, parts)
        self._held = ""
        if not self._fresh:
            self._give(self._gap, parts)
        self._gap = ""
        return parts

    def _markers(self) -> list[str]:
        """Those that mean something at this point."""
        if self._body is not None and self._call:
            # A call without an end marker ends where the next one starts.
            return [self._call[1] or self._call[0]]
        reasoning = self._part is Thought
        thought = [self._thought[reasoning]] if self._thought and (reasoning or not self._once) else []
        return [*thought, self._call[0]] if self._call else thought

    def _cross(self, marker: str, parts: list[Part]) -> None:
        if self._call and self._body is not None:
            # Where the next call's start ended this one, it is to be read again.
            self._held = self._held if self._call[1] else marker + self._held
            self._close(self._call[1], parts)
        elif self._call and marker == self._call[0]:
            self._body = []
        else:
            self._part = Text if self._part is Thought else Thought
            self._gap, self._fresh = "", True

    def _take(self, text: str, parts: list[Part]) -> None:
        if self._body is not None:
            self._body.append(text)
            return
        if self._fresh:
            text = text.lstrip()
            self._fresh = not text
        if self._layout:
            text = self._gap + text
            kept = len(text.rstrip())
            text, self._gap = text[:kept], text[kept:]
        self._give(text, parts)

    def _give(self, text: str, parts: list[Part]) -> None:
        if text:
            parts.append(self._part(text))

    def _close(self, marker: str, parts: list[Part], cut: bool = False) -> None:
        """End the open call; `marker` is what ended it."""
        assert self._call is not None
        assert self._body is not None
        body, self._body = "".join(self._body), None
        calls = [] if cut else self._calls(body)
        if calls:
            parts.extend(calls)
            # A call ends the reasoning that it stands in, as in mlx_lm.
            self._part, self._gap, self._fresh = Text, "", True
        else:
            self._take(self._call[0], parts)
            self._held = body + marker + self._held
            self._failed += 1
            if self._failed == _MAX_FAILED:
                self._call = None

    def _calls(self, body: str) -> list[ToolCall]:
        """Empty where `body` is not a call."""
        assert self._parse is not None
        try:
            return [_tool_call(call) for call in self._parse(body, self._tools)]
        except (ValueError, TypeError, RecursionError):
            return []


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    """Raises ValueError for what is none, and TypeError for arguments that JSON does not know."""
    name, arguments = call.get("name"), call.get("arguments")
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not isinstance(arguments, dict):
        raise ValueError("a call is a name and an object of arguments")
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    (name + text).encode()  # ValueError for half a surrogate pair, which no answer could carry
    return ToolCall(name, text)


def _first(text: str, markers: Sequence[str]) -> tuple[int, str] | None:
    """Where the first of `markers` stands in `text`, and which one it is."""
    found = [(at, marker) for marker in markers if (at := text.find(marker)) >= 0]
    return min(found, default=None)


def _overhang(text: str, markers: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the start of a marker."""
    longest = max((len(marker) - 1 for marker in markers), default=0)
    return next(
        (size for size in range(min(longest, len(text)), 0, -1) if any(m.startswith(text[-size:]) for m in markers)), 0
    )
