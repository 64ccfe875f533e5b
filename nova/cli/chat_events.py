"""What a server with OpenAI's chat API sends, as far as `nova chat` looks at it. Pure."""

from __future__ import annotations

import msgspec

from nova.errors import GenerationError, ProtocolError

SAID = 500
"""Characters of an error that is not in OpenAI's shape."""


class _Lenient(msgspec.Struct, frozen=True):
    """What servers add is ignored."""


class Delta(_Lenient, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(_Lenient, frozen=True):
    delta: Delta = Delta()
    finish_reason: str | None = None


class _Details(_Lenient, frozen=True):
    cached_tokens: int | None = None


class Usage(_Lenient, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        return (self.prompt_tokens_details.cached_tokens or 0) if self.prompt_tokens_details else 0


class _Error(_Lenient, frozen=True):
    message: str = ""


class Event(_Lenient, frozen=True):
    """One event of an answer."""

    choices: list[_Choice] = []
    usage: Usage | None = None
    error: _Error | str | None = None


class Model(_Lenient, frozen=True):
    id: str


class Models(_Lenient, frozen=True):
    data: list[Model]


def message(body: bytes) -> str:
    """The message of an error, which is in OpenAI's shape or any other."""
    try:
        error = msgspec.json.decode(body, type=Event).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = None
    said = error.message if isinstance(error, _Error) else error
    return " ".join((said or body.decode(errors="replace")).split())[:SAID]


def read(data: str) -> Event:
    """One event's data. Raises ProtocolError, and GenerationError with the server's words where it tells an error."""
    try:
        event = msgspec.json.decode(data, type=Event)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"the server sent an event that is not of OpenAI's chat API: {error}") from error
    if event.error is not None:
        said = event.error if isinstance(event.error, str) else event.error.message
        raise GenerationError(said or "the server ended the answer with an error without words")
    return event
