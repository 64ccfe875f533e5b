"""The chunks of late, kept for whoever asks where a request's time went.

They are kept encoded: that is a tenth of the memory, and their length is known when an answer must not be too long.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from nova.wire.codec import MAX_BODY_BYTES
from nova.wire.requests import TraceReply
from nova.wire.work import ChunkTiming

CHUNKS = 50_000
CHUNK_BYTES = 16 << 20
"""Of all that are kept; at 200 bytes for a chunk of eight rows, the number counts."""
REQUESTS = 1000
REPLY_BYTES = MAX_BODY_BYTES - (1 << 19)
"""For the chunks; the rest is for the names of requests (`nova.coordinator.request.MAX_NAME`)."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(ChunkTiming)


@dataclass(slots=True)
class _Known:
    """A request. Its chunks went from `first_ns` to `last_ns` on the clock of that generation's driver, over the stages
    of these nodes."""

    name: str
    stream: int
    generation: int
    transport: str
    nodes: Sequence[str]
    first_ns: int = 0
    last_ns: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    generation: int
    sent_ns: int
    done_ns: int
    chunk: bytes


class Trace:
    """Streams are never used again, in whatever generation."""

    def __init__(self) -> None:
        self._chunks: deque[_Kept] = deque()
        self._bytes = 0
        self._requests: OrderedDict[int, _Known] = OrderedDict()
        self._last: _Known | None = None

    def begun(self, name: str, stream: int, generation: int, transport: str, nodes: Sequence[str]) -> None:
        """`nodes` are those of its stages."""
        self._requests[stream] = _Known(name, stream, generation, transport, nodes)
        if len(self._requests) > REQUESTS:
            self._requests.popitem(last=False)

    def ended(self, stream: int) -> None:
        known = self._requests.get(stream)
        if known is not None and known.first_ns:
            self._last = known

    def saw(self, generation: int, timing: ChunkTiming) -> None:
        """A chunk has passed all stages."""
        kept = _Kept(generation, timing.sent_ns, timing.done_ns, _ENCODER.encode(timing))
        self._chunks.append(kept)
        self._bytes += len(kept.chunk)
        while len(self._chunks) > CHUNKS or self._bytes > CHUNK_BYTES:
            self._bytes -= len(self._chunks.popleft().chunk)
        for stream, _ in timing.rows:
            if (known := self._requests.get(stream)) is not None and known.generation == generation:
                known.first_ns = known.first_ns or timing.sent_ns
                known.last_ns = timing.done_ns

    def find(self, target: str) -> Found | str:
        """What is kept of `target`, "" for the request that ended last; a text says why there is nothing."""
        known = self._last
        if target:
            known = next((each for each in reversed(self._requests.values()) if each.name == target), None)
        if known is None or not known.first_ns:
            missing = f"nothing is kept of request {target!r}: the last {REQUESTS} requests are known"
            return missing if target else "no request has ended yet"
        names = {each.name: each.stream for each in self._requests.values()} | {known.name: known.stream}
        return Found(replace(known), names, list(self._chunks))


@dataclass(frozen=True)
class Found:
    """What is known at one moment, for a thread that makes an answer of it: that takes a while."""

    known: _Known
    names: Mapping[str, int]
    kept: Sequence[_Kept]

    @property
    def nodes(self) -> list[str]:
        return list(self.known.nodes)

    def reply(self, request: str, offsets_ns: Sequence[int]) -> TraceReply:
        chunks: list[ChunkTiming] = []
        known, left, omitted = self.known, REPLY_BYTES, 0
        for kept in reversed(self.kept):
            crossed = kept.generation == known.generation and kept.sent_ns <= known.last_ns
            if crossed and kept.done_ns >= known.first_ns:
                left -= len(kept.chunk)
                if left < 0:
                    omitted += 1
                else:
                    chunks.append(_DECODER.decode(kept.chunk))
        chunks.reverse()
        streams = {stream for chunk in chunks for stream, _ in chunk.rows} | {known.stream}
        names = {name: stream for name, stream in self.names.items() if stream in streams}
        return TraceReply(request, known.name, self.nodes, list(offsets_ns), known.transport, names, chunks, omitted)
