"""A stage's caches, one per request, and the proof that its chunks come complete, once each, and in order.

A transport that loses, repeats or reorders chunks would give a wrong text without a word: each chunk continues its
request's cache where the one before it ended, or it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nova.errors import TransportFault
from nova.wire.tensor import Flags, Header


@dataclass
class _Cache:
    """`position` is that of the next chunk's first token."""

    layers: Any
    position: int = 0


class Caches:
    """`make` makes the cache of a request's layers."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._caches: dict[int, _Cache] = {}

    def __contains__(self, stream: int) -> bool:
        return stream in self._caches

    def continued(self, header: Header) -> Any:
        """The cache that this chunk continues. Raises TransportFault."""
        if header.flags & Flags.FIRST and header.stream not in self._caches:
            self._caches[header.stream] = _Cache(self._make())
        cache = self._caches.get(header.stream)
        if cache is None:
            raise TransportFault(f"a chunk of request {header.stream} came before its first one: a chunk was lost")
        if header.position != cache.position:
            came = f"position {header.position} came, {cache.position} was awaited"
            raise TransportFault(f"request {header.stream}: {came}: a chunk was lost, repeated or overtaken")
        cache.position += header.width
        return cache.layers

    def drop(self, stream: int) -> None:
        """The request is over. Idempotent."""
        self._caches.pop(stream, None)
