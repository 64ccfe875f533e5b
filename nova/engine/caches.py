"""A stage's caches, by request, and the proof that each request's chunks come complete, once each, and in order.

A transport that loses, repeats or reorders chunks would give a wrong text without a word: each row continues its
request's caches where the chunk before ended, or the chunk is refused.

A request's caches are its own ("solo"), or a row in the batch of a group. A chunk of several rows names its group, and
the group's batch is made to hold just these rows: who left gets solo caches again, who came is merged in. A chunk with
the members of the one before it, as most are, touches nothing. Caches stay until their request is dropped, so that
others can begin where a request that has ended left off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from nova.engine import batches
from nova.engine.batches import Batch, Cache
from nova.engine.memory import give_back
from nova.errors import TransportFault
from nova.wire.rows import RowHead
from nova.wire.tensor import Header

CLEAR_EVERY = 256
"""Chunks after which MLX's freed buffers go. Caches that grow leave some of sizes that are never asked for again; it is
how often mlx_lm does it."""

UNUSED = 128
"""Chunks after which a batch that none of them was for is taken apart: its group is no more. It would keep every member
at the length of the longest. Of `window(stages)` groups each has its turn in far fewer."""

Run = Callable[[mx.array, Cache], mx.array]
"""A stage's layers: hidden state and caches to hidden state, built lazily."""


@dataclass(slots=True)
class _Kept:
    """One request's caches: `solo`, or its row in `batch`. `position` is that of the next chunk's first token."""

    position: int
    solo: Cache | None
    batch: Batch | None = None


class Caches:
    """`make` makes the caches of one request."""

    def __init__(self, make: Callable[[], Cache]) -> None:
        self._make = make
        self._kept: dict[int, _Kept] = {}
        self._batches: dict[int, Batch] = {}
        self._touched: list[Cache] = []
        self._runs = 0

    def __contains__(self, stream: int) -> bool:
        return stream in self._kept

    @property
    def nbytes(self) -> int:
        """Bytes of all caches. What a request shares with the one that it was forked from counts twice."""
        solo = [kept.solo for kept in self._kept.values() if kept.solo is not None]
        return sum(map(batches.nbytes, [*solo, *(batch.layers for batch in self._batches.values())]))

    def run(self, header: Header, hidden: mx.array, run: Run) -> mx.array:
        """`hidden` [rows, width, D] through the stage, each row with its request's caches, which grow by `width`.

        Raises TransportFault, with all caches as they were, for a row that does not continue its request, and
        EngineError for a fork that the caches cannot give.
        """
        for row in header.rows:
            self._check(row)
        self._runs += 1
        if self._runs % UNUSED == 0:
            self._take_apart()
        if self._runs % CLEAR_EVERY == 0:
            mx.clear_cache()
        for row in header.rows:
            if row.first:
                self._kept[row.stream] = self._begun(row)
        streams = [row.stream for row in header.rows]
        batch = self._batch(header.group, streams)
        if batch is None:
            out = self._one_by_one(streams, hidden, run)
        else:
            batch.used = self._runs
            self._touched = [batch.layers]
            out = batch.settled(run(hidden, batch.layers))
        for stream in streams:
            self._kept[stream].position += header.width
        return out

    def states(self) -> list[Any]:
        """What to evaluate of the last run if nobody wants its output."""
        return [batches.states(layers) for layers in self._touched]

    def drop(self, streams: Iterable[int]) -> None:
        """These requests are over. Idempotent. A row in a batch goes with the group's next chunk, or with its last.

        With the last request of all the memory goes back to the system.
        """
        held = len(self._kept)
        self._touched = []
        for stream in streams:
            self._drop(stream)
        if held and not self._kept:
            give_back()

    def _drop(self, stream: int) -> None:
        kept = self._kept.pop(stream, None)
        if kept is not None and kept.batch is not None:
            self._leave(kept.batch, stream)

    def _take_apart(self) -> None:
        for batch in [batch for batch in self._batches.values() if self._runs - batch.used >= UNUSED]:
            for member in [member for member in batch.members if member is not None]:
                self._solo(member)

    # --- one row ----------------------------------------------------------------------------------------------------

    def _check(self, row: RowHead) -> None:
        kept = self._kept.get(row.stream)
        if row.first and kept is None:
            source = self._kept.get(row.source)
            if row.source and source is None:
                raise TransportFault(
                    f"request {row.stream} begins with the caches of request {row.source}, which are not here: "
                    f"a chunk was lost or overtaken"
                )
            if source is not None and row.position > source.position:
                raise _gap(row, source.position)
        elif kept is None:
            raise TransportFault(f"a chunk of request {row.stream} came before its first one: a chunk was lost")
        elif row.first or row.position != kept.position:
            raise _gap(row, kept.position)

    def _begun(self, row: RowHead) -> _Kept:
        if not row.source:
            return _Kept(0, self._make())
        source = self._kept[row.source]
        layers = source.solo if source.batch is None else source.batch.extract(row.source)
        assert layers is not None
        return _Kept(row.position, batches.fork(layers, source.position, row.position))

    def _solo(self, stream: int) -> Cache:
        """The request's own caches; if it had a row in a batch, it has left it."""
        kept = self._kept[stream]
        if kept.batch is not None:
            kept.solo = kept.batch.extract(stream)
            self._leave(kept.batch, stream)
            kept.batch = None
        assert kept.solo is not None
        return kept.solo

    def _leave(self, batch: Batch, stream: int) -> None:
        batch.forget(stream)
        if batch.empty:
            del self._batches[batch.group]

    # --- rows together ----------------------------------------------------------------------------------------------

    def _batch(self, group: int, streams: list[int]) -> Batch | None:
        """The group's batch with just these rows; None where each runs with caches of its own."""
        batch = self._batches.get(group)
        if batch is not None:
            if batch.members == streams:
                return batch
            for member in [member for member in batch.members if member is not None and member not in streams]:
                self._solo(member)
            batch = self._batches.get(group)  # not if everybody has left it
        if not group or len(streams) < 2 or not self._can_merge(streams[0]):
            return None
        joining = streams if batch is None else [each for each in streams if self._kept[each].batch is not batch]
        caches = [self._solo(stream) for stream in joining]
        if batch is None:
            batch = self._batches[group] = Batch(group, joining, caches)
        else:
            batch.change(streams, joining, caches)
        for stream in joining:
            self._kept[stream].solo, self._kept[stream].batch = None, batch
        return batch

    def _can_merge(self, stream: int) -> bool:
        kept = self._kept[stream]
        return kept.solo is None or batches.can_merge(kept.solo)

    def _one_by_one(self, streams: list[int], hidden: mx.array, run: Run) -> mx.array:
        self._touched = [self._solo(stream) for stream in streams]
        if len(streams) == 1:
            return run(hidden, self._touched[0])
        outs = [run(hidden[place : place + 1], layers) for place, layers in enumerate(self._touched)]
        return mx.concatenate(outs)


def _gap(row: RowHead, awaited: int) -> TransportFault:
    came = f"position {row.position} came, {awaited} was awaited"
    return TransportFault(f"request {row.stream}: {came}: a chunk was lost, repeated or overtaken")
