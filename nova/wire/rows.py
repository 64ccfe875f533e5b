"""The rows of a chunk: whose they are and where they go on. A table of its own part, behind the tensor header.

offset  size  field, 28 bytes for each row, little endian
0       8     stream: which request, from 1 on
8       4     position of the row's first token
12      4     epoch: rises when earlier chunks of the stream became worthless
16      4     first: 1 if the stream begins here, else 0
20      8     source: 0, or the stream whose caches a beginning stream continues, cut to `position`
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from nova.errors import ProtocolError

MAX_ROWS = 256

_ROW = struct.Struct("<QIIIQ")
ROW_BYTES = _ROW.size


class RowHead(NamedTuple):
    """One request's part of a chunk. A stream that begins without a source begins at position 0."""

    stream: int
    position: int
    epoch: int = 0
    first: bool = False
    source: int = 0


Rows = tuple[RowHead, ...]


def pack(rows: Sequence[RowHead]) -> bytes:
    """The table, ROW_BYTES for each row. Raises ProtocolError for what no table can say."""
    try:
        table = b"".join([_ROW.pack(*row) for row in rows])
    except struct.error as error:
        raise ProtocolError(f"no table of rows can say {rows}: {error}") from error
    _check(rows)
    return table


def unpack(data: bytes | bytearray | memoryview) -> Rows:
    """Read a peer's table. Raises ProtocolError unless every field is in range and agrees with the rest."""
    if len(data) % ROW_BYTES:
        raise ProtocolError(f"table of rows has {len(data)} bytes, which is no multiple of {ROW_BYTES}")
    rows = tuple(map(RowHead._make, _ROW.iter_unpack(data)))
    if any(row.first > 1 for row in rows):
        raise ProtocolError(f"table of rows out of range: {rows}")
    _check(rows)
    return rows


def _check(rows: Sequence[RowHead]) -> None:
    if not 0 < len(rows) <= MAX_ROWS:
        raise ProtocolError(f"a chunk has {len(rows)} rows, the limit is {MAX_ROWS}")
    for row in rows:
        fresh = row.first and not row.source
        if (row.source and not row.first) or row.source == row.stream or (fresh and row.position) or not row.stream:
            raise ProtocolError(f"a row that contradicts itself: {row}")
    if len(rows) > 1 and len({row.stream for row in rows}) < len(rows):
        raise ProtocolError(f"a request stands twice in one chunk: {[row.stream for row in rows]}")
