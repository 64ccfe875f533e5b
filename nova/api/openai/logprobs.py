"""Log-probabilities in the two forms of the OpenAI API, and what tokens are called in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nova.coordinator.port import Port
from nova.wire.work import TokenLogprob

_LEAST = -9999.0
"""Stands for minus infinity, which JSON does not know; as in OpenAI's answers."""

_UNKNOWN = "\ufffd"


class TokenTexts:
    """The text of single tokens, kept; as many as the vocabulary has."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._known: dict[int, str] = {}

    async def text(self, token: int) -> str:
        """As it stands inside a text: some tokenizers drop the space at the start of one."""
        if token not in self._known:
            once = await self._port.decode([token])
            self._known[token] = (await self._port.decode([token, token]))[len(once) :]
        return self._known[token]

    async def chat(self, one: TokenLogprob) -> dict[str, Any]:
        """An item of a chat choice's logprobs.content."""
        top = [await self._item(token, logprob) for token, logprob in one.top]
        return {**await self._item(one.token, one.logprob), "top_logprobs": top}

    async def _item(self, token: int, logprob: float) -> dict[str, Any]:
        text = await self.text(token)
        # Part of a character has no text, and its bytes are not known here.
        told = None if _UNKNOWN in text else list(text.encode())
        return {"token": text, "logprob": max(logprob, _LEAST), "bytes": told}


async def completion(texts: TokenTexts, found: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    """A completion choice's logprobs; `offset` is where the text of the first token starts, in characters."""
    tokens = [await texts.text(one.token) for one in found]
    offsets = []
    for text in tokens:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": tokens,
        "token_logprobs": [max(one.logprob, _LEAST) for one in found],
        "top_logprobs": [
            {await texts.text(token): max(logprob, _LEAST) for token, logprob in one.top} for one in found
        ],
        "text_offset": offsets,
    }  # fmt: skip
