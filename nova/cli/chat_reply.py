"""An answer of `nova chat` as it comes, and its account. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nova.cli.chat_events import Event, Usage
from nova.cli.output import Answer


@dataclass
class Reply:
    """An answer as it comes; times are monotonic seconds."""

    asked: float
    first: float = 0.0
    last: float = 0.0
    text: str = ""
    reasoning: str = ""
    finish: str = ""
    pieces: int = 0
    usage: Usage | None = None

    def add(self, event: Event, now: float) -> tuple[str, str]:
        """What this adds: reasoning and text."""
        self.usage = event.usage or self.usage
        for choice in event.choices[:1]:
            delta, self.finish = choice.delta, choice.finish_reason or self.finish
            thought, text = delta.reasoning_content or delta.reasoning or "", delta.content or ""
            if thought or text:
                self.first, self.last = self.first or now, now
                self.pieces += 1
            self.reasoning, self.text = self.reasoning + thought, self.text + text
            return thought, text
        return "", ""

    def answer(self, model: str, error: str = "") -> Answer:
        """Where the server has not counted, each piece counts for a token."""
        usage = self.usage or Usage(completion_tokens=self.pieces)
        took = self.last - self.first
        return Answer(
            text=self.text,
            reasoning=self.reasoning,
            finish="error" if error else self.finish,
            model=model,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            ttft_s=self.first - self.asked if self.first else 0.0,
            tok_s=(usage.completion_tokens - 1) / took if took > 0 else 0.0,
            error=error,
        )
