"""Responses that may be asked for again, or gone on from. In memory: a restart forgets them. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

MAX_RESPONSES = 1000
MAX_BYTES = 64 << 20


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A response, and the conversation up to its end, without instructions."""

    document: Mapping[str, Any]
    messages: Sequence[dict[str, Any]]


class Store:
    """At most `most` responses of `most_bytes` in all; those that were unused for longest go first. Each belongs to its
    `owner`, the API key that made it. They are kept as JSON, so that their bytes are what they take."""

    def __init__(self, most: int = MAX_RESPONSES, most_bytes: int = MAX_BYTES) -> None:
        self._most = most
        self._room = most_bytes
        self._held: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def put(self, owner: str, name: str, stored: Stored) -> None:
        self._held[owner, name] = kept = msgspec.json.encode(stored)
        self._room -= len(kept)
        while self._room < 0 or len(self._held) > self._most:
            self.drop(*next(iter(self._held)))

    def get(self, owner: str, name: str) -> Stored | None:
        if (owner, name) not in self._held:
            return None
        self._held.move_to_end((owner, name))
        return msgspec.json.decode(self._held[owner, name], type=Stored)

    def drop(self, owner: str, name: str) -> bool:
        """Whether it was there."""
        kept = self._held.pop((owner, name), b"")
        self._room += len(kept)
        return bool(kept)
