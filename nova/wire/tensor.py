"""The header that travels before every tensor, and the dtypes it can name.

A chunk on the data plane is three parts: this header, of fixed size; the table of its rows (`nova.wire.rows`), whose
length the header says; and the tensor's bytes, if it has any. Everything is little endian. The header also carries a
`Hop` for every stage that the chunk has crossed, so that the breakdown of a token costs no message of its own.

    offset  size  field
    0       4     magic "NVT2"                                         layout: equal for chunk after chunk of a
    4       1     kind                                                 request, so it is checked once and then
    5       1     dtype                                                found by its bytes
    6       1     number of dimensions
    7       1     zero
    8       4     flags
    12      4     width: number of tokens of each row
    16      8     payload size in bytes
    24      24    shape, six dimensions: rows, width, ...
    48      8     group: which batch caches the rows share             new in every chunk
    56      4     generation of the group of engines: a late chunk of an old one is dropped
    60      2     number of rows
    62      2     number of hops
    64      384   sixteen hops (see Hop), 24 bytes each
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from nova.errors import ProtocolError
from nova.wire import rows as table
from nova.wire.rows import MAX_ROWS, ROW_BYTES, RowHead

MAGIC = b"NVT2"
MAX_DIMS = 6
MAX_STAGES = 16
MAX_TENSOR_BYTES = 4 << 30

_LAYOUT = struct.Struct("<4sBBBxIIQ6I")
_CHUNK = struct.Struct("<QIHH")
_HOP = struct.Struct("<QII8x")
_WHOLE = struct.Struct(f"<{_LAYOUT.size}sQIHH{MAX_STAGES * _HOP.size}s")
HEADER_BYTES = _WHOLE.size
_PADDING = [bytes((MAX_STAGES - hops) * _HOP.size) for hops in range(MAX_STAGES + 1)]

DTYPE_SIZES: dict[str, int] = {
    "bool_": 1,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "float32": 4,
    "bfloat16": 2,
}
"""MLX's names and their sizes in bytes; the order is the wire code, so only append."""

_DTYPES = tuple(DTYPE_SIZES)
_CODES = {name: code for code, name in enumerate(_DTYPES)}


class Kind(enum.IntEnum):
    """What a chunk is."""

    TOKENS = 1  # token ids, from the driver to stage 0
    HIDDEN = 2  # hidden state, from a stage to the next

    __hash__ = int.__hash__  # an enum's own is written in Python, and layouts are looked up for every chunk


class Flags(enum.IntFlag, boundary=enum.STRICT):
    NONE = 0
    PREFILL = 1  # no token is sampled from this chunk
    DROP = 2  # the rows' streams are over: stages drop their caches; no payload

    __hash__ = int.__hash__


@dataclass(frozen=True, slots=True)
class Layout:
    """What a chunk is, apart from whose and where. `shape` is in elements, `width` in tokens for each row."""

    kind: Kind
    flags: Flags
    width: int
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    packed: bytes


@lru_cache(maxsize=1024)
def layout(kind: Kind, flags: Flags, width: int, dtype: str, shape: tuple[int, ...]) -> Layout:
    """The layout with these values; `shape` is (rows, width, ...), or holds no element for a chunk with DROP.

    Raises ProtocolError for what no header can say.
    """
    if dtype not in _CODES or len(shape) > MAX_DIMS:
        raise ProtocolError(f"no header can say dtype {dtype} and shape {shape}")
    nbytes = prod(shape) * DTYPE_SIZES[dtype]
    if bool(flags & Flags.DROP) == bool(nbytes):
        raise ProtocolError(f"a chunk with {flags!r} and {nbytes} bytes: exactly those that drop have none")
    if nbytes and (len(shape) < 2 or shape[1] != width):
        raise ProtocolError(f"tensor of shape {shape} has not {width} tokens for each row")
    dims = (*shape, *(0,) * (MAX_DIMS - len(shape)))
    try:
        packed = _LAYOUT.pack(MAGIC, kind, _CODES[dtype], len(shape), flags, width, nbytes, *dims)
    except struct.error as error:
        raise ProtocolError(f"no header can say width {width} and shape {shape}: {error}") from error
    return Layout(kind, flags, width, dtype, shape, nbytes, packed)


@lru_cache(maxsize=1024)
def _read_layout(packed: bytes) -> Layout:
    """A peer's layout. Raises ProtocolError unless every field is in range and agrees with the rest."""
    magic, kind, dtype, dims, flags, width, nbytes, *padded = _LAYOUT.unpack(packed)
    if magic != MAGIC:
        raise ProtocolError(f"tensor header begins with {magic!r}, expected {MAGIC!r}")
    if dtype >= len(_DTYPES) or dims > MAX_DIMS:
        raise ProtocolError(f"tensor header out of range: dtype {dtype}, {dims} dimensions")
    name, shape = _DTYPES[dtype], tuple(padded[:dims])
    said = prod(shape) * DTYPE_SIZES[name]
    if said != nbytes:
        raise ProtocolError(f"tensor of {nbytes} bytes, shape says {said}")
    try:
        return layout(Kind(kind), Flags(flags), width, name, shape)
    except ValueError as error:
        raise ProtocolError(f"tensor header: {error}") from error


@dataclass(frozen=True, slots=True)
class Hop:
    """One stage's share of one chunk. `received_ns` is the stage's own monotonic clock; the rest are durations."""

    received_ns: int
    waited_us: int
    compute_us: int


class Header:
    """A chunk's header. `trail` holds its hops as they travel: stages only add to it, the driver reads it.

    `rows` travel as a part of their own, of `row_bytes`: a header that was unpacked has none before `unpack_rows`.
    """

    __slots__ = ("generation", "group", "layout", "row_bytes", "rows", "trail")

    def __init__(
        self, layout: Layout, rows: tuple[RowHead, ...], group: int = 0, trail: bytes = b"", generation: int = 0
    ) -> None:
        self.layout = layout
        self.rows = rows
        self.row_bytes = len(rows) * ROW_BYTES
        self.group = group
        self.trail = trail
        self.generation = generation

    @property
    def kind(self) -> Kind:
        return self.layout.kind

    @property
    def flags(self) -> Flags:
        return self.layout.flags

    @property
    def width(self) -> int:
        return self.layout.width

    @property
    def nbytes(self) -> int:
        return self.layout.nbytes

    @property
    def hops(self) -> list[Hop]:
        """The hops so far, first stage first."""
        return [Hop(*values) for values in _HOP.iter_unpack(self.trail)]

    def add_hop(self, received_ns: int, waited_us: int, compute_us: int) -> None:
        """A stage's share. Raises ProtocolError out of range."""
        try:
            self.trail += _HOP.pack(received_ns, waited_us, compute_us)
        except struct.error as error:
            raise ProtocolError(f"no header can say hop {received_ns}, {waited_us}, {compute_us}: {error}") from error

    def onward(self, kind: Kind, dtype: str, shape: tuple[int, ...]) -> Header:
        """The same chunk as another tensor: what the next stage gets."""
        new = self.layout
        if new.kind is not kind or new.shape != shape or new.dtype != dtype:  # from the second stage on they are equal
            new = layout(kind, new.flags, new.width, dtype, shape)
        return Header(new, self.rows, self.group, self.trail, self.generation)

    def pack(self) -> bytes:
        """The header as HEADER_BYTES bytes. Raises ProtocolError for what no header can say."""
        hops = len(self.trail) // _HOP.size
        try:
            chunk = _CHUNK.pack(self.group, self.generation, self.row_bytes // ROW_BYTES, hops)
            return b"".join((self.layout.packed, chunk, self.trail, _PADDING[hops]))
        except (struct.error, IndexError) as error:
            where = f"group {self.group}, generation {self.generation}, {hops} hops"
            raise ProtocolError(f"no header can say {where}: {error}") from error

    def pack_rows(self) -> bytes:
        """The rows as `row_bytes` bytes. Raises ProtocolError for what no table can say."""
        return table.pack(self.rows)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview, limit: int = MAX_TENSOR_BYTES) -> Header:
        """Read a header from a peer; its rows are yet to come.

        Raises ProtocolError unless every field is in range and agrees with the rest.
        """
        if len(data) != HEADER_BYTES:
            raise ProtocolError(f"tensor header has {len(data)} bytes, expected {HEADER_BYTES}")
        packed, group, generation, rows, hops, trail = _WHOLE.unpack(data)
        found = _read_layout(packed)
        if found.nbytes > limit:
            raise ProtocolError(f"tensor of {found.nbytes} bytes, limit is {limit}")
        if hops > MAX_STAGES or not 0 < rows <= MAX_ROWS:
            raise ProtocolError(f"tensor header out of range: {hops} hops, {rows} rows")
        if found.nbytes and found.shape[0] != rows:
            raise ProtocolError(f"tensor of shape {found.shape}, the header says {rows} rows")
        header = cls(found, (), group, trail[: hops * _HOP.size], generation)
        header.row_bytes = rows * ROW_BYTES
        return header

    def unpack_rows(self, data: bytes | bytearray | memoryview) -> None:
        """Take the rows from a peer's table. Raises ProtocolError."""
        if len(data) != self.row_bytes:
            raise ProtocolError(f"table of rows has {len(data)} bytes, expected {self.row_bytes}")
        self.rows = table.unpack(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Header) and (self.pack(), self.rows) == (other.pack(), other.rows)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        of = f"{self.kind.name} {self.layout.dtype}{list(self.layout.shape)} {self.flags!r}"
        return f"Header({of}, group {self.group}, {list(self.rows)}, {len(self.trail) // _HOP.size} hops)"
