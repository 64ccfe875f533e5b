"""Text to tokens and back beside the event loop: heartbeats must not wait for a long prompt.

One thread, because a tokenizer is not for two at once; so prompts are encoded in the order in which they came, and
one whose client has gone before its turn is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nova.coordinator.model import ServedModel
from nova.coordinator.port import Chat, Prompt
from nova.errors import ModelError

AT_ONCE = 256
"""Tokens that are decoded in the event loop itself: that takes less time than a thread's answer."""

_T = TypeVar("_T")


class Texts:
    """`model` is None until it is opened; `problem` then says why, and stays when it cannot be. `settled` is set when
    that is known."""

    def __init__(self) -> None:
        self.model: ServedModel | None = None
        self.problem = "the model is being opened"
        self.settled = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "nova-encoder")
        self._closed = False

    @property
    def opened(self) -> ServedModel:
        """Raises ModelError while there is no model."""
        if self.model is None:
            raise ModelError(self.problem)
        return self.model

    def settle(self, outcome: ServedModel | str) -> None:
        """The model, or why there is none."""
        if isinstance(outcome, str):
            self.problem = outcome
        else:
            self.model, self.problem = outcome, ""
        self.settled.set()

    async def encode(self, text: str, chat: bool = False) -> list[int]:
        """Raises ModelError, as the others do."""
        encoder = self.opened.encoder
        return await self._beside(lambda: encoder.encode(text, chat))

    async def encode_chat(self, chat: Chat) -> Prompt:
        encoder = self.opened.encoder
        return Prompt(*await self._beside(lambda: encoder.encode_chat(chat.messages, chat.tools, chat.options)))

    async def decode(self, tokens: list[int]) -> str:
        """Raises ModelError for a token that the model does not have, too."""
        model = self.opened
        if (strange := stranger(tokens, model.vocabulary)) is not None:
            raise ModelError(f"token {strange} is not one of the model's {model.vocabulary}")
        if len(tokens) <= AT_ONCE:
            return model.text.decode(tokens)
        return await self._beside(lambda: model.encoder.decode(tokens))

    def close(self) -> None:
        """What waits for its turn is cancelled. Idempotent."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _beside(self, work: Callable[[], _T]) -> _T:
        if self._closed:
            raise ModelError("the coordinator is shutting down")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def stranger(tokens: Iterable[int], vocabulary: int) -> int | None:
    """A token that the model does not have."""
    return next((token for token in tokens if not 0 <= token < vocabulary), None)
