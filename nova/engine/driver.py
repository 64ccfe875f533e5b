"""The driver of one request: which chunk goes round next. It lives on the last stage, where tokens are born.

A prompt of n tokens crosses the stages as prefill pieces of its first n - 1 tokens; its last token is the first
decode step. That is the shape mlx-lm gives its own prefill, and equal shapes are what makes greedy tokens equal to
the bit. How many chunks are under way at once is the schedule's business.

Pure: no clock, no array, no socket.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from nova.wire.messages import Begin
from nova.wire.tensor import Flags


@dataclass(frozen=True)
class Plan:
    """A chunk to send to stage 0. `position` is that of its first token."""

    position: int
    tokens: list[int]
    flags: Flags


class Driver:
    """One request's progress. `next` gives chunks, `sampled` takes what came of a decode step."""

    def __init__(self, begin: Begin, prefill_chunk: int) -> None:
        self.begin = begin
        self.finish = ""
        self.generated = 0
        self._pending: deque[Plan] = deque()
        prompt, last = begin.prompt, len(begin.prompt) - 1
        for start in range(0, last, prefill_chunk):
            piece = prompt[start : min(start + prefill_chunk, last)]
            self._pending.append(Plan(start, piece, Flags.PREFILL))
        self._pending.append(Plan(last, prompt[last:], Flags.NONE))

    def next(self) -> Plan | None:
        """The next chunk to send, or None until a decode step has come back."""
        return self._pending.popleft() if self._pending and not self.finish else None

    def sampled(self, token: int) -> None:
        """A decode step has given `token`. Sets `finish` at a stop token or at the limit."""
        if self.finish:  # cancelled while this step was under way
            return
        self.generated += 1
        if token in self.begin.stop_tokens:
            self.finish = "stop"
        elif self.generated >= self.begin.max_tokens:
            self.finish = "length"
        else:
            self._pending.append(Plan(len(self.begin.prompt) - 1 + self.generated, [token], Flags.NONE))

    def cancel(self) -> None:
        """Nothing more is sent; what is under way comes back and is ignored."""
        self.finish = self.finish or "cancelled"
