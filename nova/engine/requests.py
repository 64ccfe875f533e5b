"""A request as the scheduler sees it: how far it has been sent, what came of it. Pure.

A prompt of n tokens crosses the stages as prefill pieces of its first n - 1 tokens; its last token is the first
decode row. That is the shape mlx-lm gives its own prefill. A request with `pool` wants no token: all of its prompt is
prefill.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nova.wire.messages import Begin

MAX_STREAM = 2**64 - 1
MAX_TOKEN = 2**32 - 1
"""What a chunk's row and its tensor can say."""


def malformed(begin: Begin) -> str:
    """Why it is none that could be sent, "" for one that can. Whether the model has its tokens is not known here."""
    if not 0 < begin.stream <= MAX_STREAM:
        return f"its stream must be from 1 to {MAX_STREAM}"
    if not begin.prompt or not 0 <= min(begin.prompt) <= max(begin.prompt) <= MAX_TOKEN:
        return f"its prompt must be tokens from 0 to {MAX_TOKEN}, at least one"
    if begin.pool not in ("", "mean", "last"):
        return f"there is no pool {begin.pool!r}"
    return "" if begin.pool or begin.max_tokens > 0 else "it asks for no tokens"


@dataclass
class Request:
    """`sent` is how many positions have been sent or taken from the prefix cache, `cached` how many of the latter."""

    begin: Begin
    generated: list[int] = field(default_factory=list)
    cached: int = 0
    sent: int = 0
    source: int = 0
    """The stream whose caches it continues, 0 for none."""
    started: bool = False
    """A chunk of it was sent: stages hold caches for it."""
    piece: int = 0
    """Tokens of its prefill pieces, 0 while not decided."""

    @property
    def stream(self) -> int:
        return self.begin.stream

    @property
    def prefill_left(self) -> int:
        """Prompt tokens still to be sent in prefill chunks."""
        return max(len(self.begin.prompt) - (not self.begin.pool) - self.sent, 0)

    @property
    def computed(self) -> list[int]:
        """The tokens of all positions that were sent or taken over."""
        return [*self.begin.prompt, *self.generated][: self.sent]

    def fork(self, source: int, length: int) -> None:
        """Continue `source`'s caches after `length` positions."""
        self.source, self.cached, self.sent = source, length, length

    def take(self, width: int) -> tuple[int, list[int]]:
        """The next `width` tokens to send and the position of the first."""
        position, prompt = self.sent, self.begin.prompt
        self.sent += width
        self.started = True
        if position < len(prompt):
            return position, prompt[position : position + width]
        return position, self.generated[position - len(prompt) :][:width]

    def sampled(self, token: int) -> str:
        """Its decode row has given `token`. Returns how it ended thereby, or ""."""
        self.generated.append(token)
        if token in self.begin.stop_tokens:
            return "stop"
        return "length" if len(self.generated) >= self.begin.max_tokens else ""
