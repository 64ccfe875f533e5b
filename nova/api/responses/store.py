"""Responses that may be asked for again, or gone on from. In memory: a restart forgets them. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

MAX_RESPONSES = 1000
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Stored:
    """A response, and the conversation up to its end, without instructions."""

    document: Mapping[str, Any]
    messages: Sequence[dict[str, Any]]


class Store:
    """At most `most` responses of `most_bytes` as JSON in all; those that were unused for longest go first."""

    def __init__(self, most: int = MAX_RESPONSES, most_bytes: int = MAX_BYTES) -> None:
        self._most = most
        self._room = most_bytes
        self._held: OrderedDict[str, tuple[Stored, int]] = OrderedDict()

    def put(self, name: str, stored: Stored) -> None:
        size = len(msgspec.json.encode((stored.document, stored.messages)))
        self._held[name] = stored, size
        self._room -= size
        while self._room < 0 or len(self._held) > self._most:
            self.drop(next(iter(self._held)))

    def get(self, name: str) -> Stored | None:
        if name not in self._held:
            return None
        self._held.move_to_end(name)
        return self._held[name][0]

    def drop(self, name: str) -> bool:
        """Whether it was there."""
        _, size = self._held.pop(name, (None, 0))
        self._room += size
        return size > 0
