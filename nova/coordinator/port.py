"""What the HTTP front asks of the coordinator in whose process it runs. `nova.coordinator.front.Front` answers.

The front is a client like any other: it speaks `nova.wire.requests`, without a socket in between.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nova.model.dialect import Dialect
from nova.wire.requests import Accepted, Completed, Embedded, Failed, Generate, Piece, StatusReply

Event = Accepted | Piece | Completed | Embedded | Failed


@dataclass(frozen=True)
class ModelFacts:
    """The served model. `created` is when it was opened (Unix seconds); `sampling` holds what its
    generation_config.json says of temperature, top_p, top_k and min_p."""

    name: str
    context: int
    vocabulary: int
    created: int
    dialect: Dialect
    sampling: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Chat:
    """A conversation for the model's chat template, in the form that templates know: dicts with role and content.
    `options` go to the template as they are, such as enable_thinking."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A conversation as tokens. `in_thought` says that the template has opened the model's reasoning already."""

    tokens: list[int]
    in_thought: bool = False


class Port(Protocol):
    """Nothing here blocks the event loop: what takes long runs in a thread."""

    @property
    def model(self) -> ModelFacts | None:
        """None until the model is opened, or when it cannot be."""

    @property
    def why_not(self) -> str:
        """Why requests would not be served at this moment; "" if they would be."""

    async def encode(self, text: str) -> list[int]:
        """Raises ModelError, also when there is no model."""

    async def encode_chat(self, chat: Chat) -> Prompt:
        """Raises ModelError, also for a model without a chat template and for what its template does not take."""

    async def decode(self, tokens: list[int]) -> str:
        """Raises ModelError, also for a token that is not in the vocabulary."""

    def ask(self, generate: Generate) -> AsyncGenerator[Event, None]:
        """Accepted, then pieces, at the end Completed, Embedded or Failed; raises nothing. Closing it earlier abandons
        the request on every stage."""

    def status(self) -> StatusReply:
        """The cluster at this moment."""

    def metrics(self) -> bytes:
        """All metrics in Prometheus' text format."""
