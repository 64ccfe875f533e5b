"""What stands round the choices of every answer of the OpenAI API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from nova.wire.requests import Completed

DONE = b"data: [DONE]\n\n"
"""The end of a stream."""


@dataclass(frozen=True)
class Frame:
    """What stands in every chunk of an answer."""

    id: str
    created: int
    model: str

    def document(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        start = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**start, "choices": choices, **more}

    def event(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: " + msgspec.json.encode(self.document(kind, choices, **more)) + b"\n\n"


def usage(prompts: Sequence[Sequence[Completed]]) -> dict[str, Any]:
    """The account of the choices of each prompt. A prompt counts once, however many choices it has."""
    read = sum(choices[0].prompt_tokens for choices in prompts)
    written = sum(one.completion_tokens for choices in prompts for one in choices)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(choices[0].cached_tokens for choices in prompts)},
    }
