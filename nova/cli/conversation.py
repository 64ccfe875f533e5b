"""A conversation of `nova chat`: what was said, how answers are asked for, and what they cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean

import msgspec

from nova.cli.output import Answer
from nova.errors import ConfigError

SETTINGS: dict[str, type[int] | type[float]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "max_tokens": int,
    "seed": int,
    "presence_penalty": float,
    "frequency_penalty": float,
    "repetition_penalty": float,
}
"""What /set knows: fields of a request, by the names that most servers know them under."""


class Message(msgspec.Struct, frozen=True):
    """As OpenAI's API has it."""

    role: str
    content: str


class Saved(msgspec.Struct, frozen=True):
    """What /save writes and /load reads."""

    messages: list[Message]


@dataclass
class Conversation:
    """`turns` are questions with their answers, which may have been cut off; reasoning is not part of what was said."""

    system: str = ""
    settings: dict[str, int | float] = field(default_factory=dict)
    turns: list[tuple[str, str]] = field(default_factory=list)
    asked: str = ""
    answers: list[Answer] = field(default_factory=list)

    def messages(self, question: str) -> list[Message]:
        """All that a server is told when it is asked `question`."""
        said = [Message("system", self.system)] if self.system else []
        for earlier, answer in self.turns:
            said += [Message("user", earlier), Message("assistant", answer)]
        return [*said, Message("user", question)]

    def answered(self, question: str, answer: Answer) -> None:
        """Keep what came; of an answer without any text nothing is kept but the account."""
        self.answers.append(answer)
        if answer.text:
            self.turns.append((question, answer.text))

    def set(self, name: str, value: str) -> None:
        """A value of "default" leaves it to the server. Raises ConfigError."""
        if name not in SETTINGS:
            raise ConfigError(f"there is no setting {name!r}; there are: {', '.join(SETTINGS)}")
        if value == "default":
            self.settings.pop(name, None)
            return
        try:
            self.settings[name] = SETTINGS[name](value)
        except ValueError:
            kind = "a whole number" if SETTINGS[name] is int else "a number"
            raise ConfigError(f"{name}: expected {kind} or `default`, got {value!r}") from None

    def undo(self) -> str:
        """Forget the last question and its answer; the question, "" where there is none."""
        return self.turns.pop()[0] if self.turns else ""

    def saved(self) -> bytes:
        """As /load reads it."""
        said = Saved(self.messages("")[:-1])
        return msgspec.json.format(msgspec.json.encode(said)) + b"\n"

    def load(self, content: bytes) -> None:
        """Take what was saved in place of what was said here. Raises ConfigError, and then nothing has changed."""
        try:
            said = msgspec.json.decode(content, type=Saved).messages
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"not a conversation that /save wrote: {error}") from error
        system = said.pop(0).content if said and said[0].role == "system" else ""
        if [one.role for one in said] != ["user", "assistant"] * (len(said) // 2):
            raise ConfigError("not a conversation that /save wrote: expected a question and its answer, in turn")
        texts = [one.content for one in said]
        self.system, self.turns = system, list(zip(texts[::2], texts[1::2], strict=True))

    def stats(self) -> str:
        """The answers so far, in one line."""
        counted = [one for one in self.answers if one.completion_tokens]
        if not counted:
            return "no answer yet"
        total, cached = sum(one.completion_tokens for one in counted), sum(one.cached_tokens for one in counted)
        asked = sum(one.prompt_tokens for one in counted)
        speed, first = fmean(one.tok_s for one in counted), fmean(one.ttft_s for one in counted)
        means = f"on average {speed:.1f} tok/s, first after {first:.2f} s"
        return f"{len(counted)} answers, {total} tokens, {means}; {cached} of {asked} prompt tokens were cached"


def account(answer: Answer) -> str:
    """What one answer cost, in one line."""
    parts = [f"{answer.completion_tokens} token{'s' * (answer.completion_tokens != 1)}"]
    if answer.tok_s:
        parts.append(f"{answer.tok_s:.1f} tok/s")
    if answer.ttft_s:
        parts.append(f"first after {answer.ttft_s:.2f} s")
    if answer.prompt_tokens:
        parts.append(f"{answer.cached_tokens} of {answer.prompt_tokens} prompt tokens cached")
    return ", ".join(parts) + (f"; ended by {answer.finish}" if answer.finish not in ("stop", "") else "")
