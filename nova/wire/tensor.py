"""The header that travels before every tensor, and the dtypes it can name.

A chunk on the data plane is two parts: this header, of fixed size, and the tensor's bytes. Everything is little
endian. The header also carries a `Hop` for every stage that the chunk has crossed, so that the breakdown of a
token costs no message of its own. Fixed size means one exact receive, and no allocation per chunk.

    offset  size  field
    0       4     magic "NVT1"
    4       1     kind
    5       1     dtype
    6       1     number of dimensions
    7       1     number of hops filled in
    8       8     stream: which request
    16      4     epoch: rises when earlier chunks of the stream became worthless
    20      4     position of the first token
    24      4     width: number of tokens
    28      4     flags
    32      8     payload size in bytes
    40      24    shape, six dimensions
    64      384   sixteen hops: received, started, finished, sent (see Hop), 24 bytes each
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from math import prod

from nova.errors import ProtocolError

MAGIC = b"NVT1"
MAX_DIMS = 6
MAX_STAGES = 16
MAX_TENSOR_BYTES = 4 << 30

_HEAD = struct.Struct("<4sBBBBQIIIIQ6I")
_HOP = struct.Struct("<QII8x")
HEADER_BYTES = _HEAD.size + MAX_STAGES * _HOP.size

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
    STAMP = 3  # proof of identity while forming
    ECHO = 4  # latency measurement while forming


class Flags(enum.IntFlag, boundary=enum.STRICT):
    NONE = 0
    PREFILL = 1  # no token is sampled from this chunk
    FIRST = 2  # the stream begins: stages make a fresh cache
    LAST = 4  # the stream is over: stages drop its cache; no payload


_KINDS = {int(kind): kind for kind in Kind}
_FLAGS = tuple(Flags(bits) for bits in range(8))  # looked up: making one takes longer


@dataclass(slots=True)
class Hop:
    """One stage's share of one chunk. `received_ns` is the stage's own monotonic clock; the rest are durations."""

    received_ns: int
    waited_us: int
    compute_us: int


@dataclass(slots=True)
class Header:
    """What a chunk is and how long its payload is. `shape` is in elements."""

    kind: Kind
    stream: int
    epoch: int
    position: int
    width: int
    flags: Flags
    dtype: str
    shape: tuple[int, ...]
    hops: list[Hop]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPE_SIZES[self.dtype]

    def pack(self) -> bytearray:
        """The header as HEADER_BYTES bytes. Raises ProtocolError for what no header can say."""
        if len(self.shape) > MAX_DIMS or len(self.hops) > MAX_STAGES:
            raise ProtocolError(f"a chunk has at most {MAX_DIMS} dimensions and {MAX_STAGES} hops")
        if self.dtype not in _CODES:
            raise ProtocolError(f"a chunk cannot be of dtype {self.dtype}, only of {', '.join(_DTYPES)}")
        out = bytearray(HEADER_BYTES)
        dims = self.shape + (0,) * (MAX_DIMS - len(self.shape))
        try:
            _HEAD.pack_into(
                out, 0, MAGIC, self.kind, _CODES[self.dtype], len(self.shape), len(self.hops),
                self.stream, self.epoch, self.position, self.width, self.flags, self.nbytes, *dims,
            )  # fmt: skip
            for index, hop in enumerate(self.hops):
                _HOP.pack_into(out, _HEAD.size + index * _HOP.size, hop.received_ns, hop.waited_us, hop.compute_us)
        except struct.error as error:
            raise ProtocolError(f"a field of the tensor header is out of range: {error}") from error
        return out

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview, limit: int = MAX_TENSOR_BYTES) -> Header:
        """Read a header from a peer. Raises ProtocolError unless every field is in range and agrees with the rest."""
        if len(data) != HEADER_BYTES:
            raise ProtocolError(f"tensor header has {len(data)} bytes, expected {HEADER_BYTES}")
        magic, kind, dtype, dims, hops, stream, epoch, position, width, flags, nbytes, *shape = _HEAD.unpack_from(data)
        if magic != MAGIC:
            raise ProtocolError(f"tensor header begins with {magic!r}, expected {MAGIC!r}")
        if dtype >= len(_DTYPES) or dims > MAX_DIMS or hops > MAX_STAGES:
            raise ProtocolError(f"tensor header out of range: dtype {dtype}, {dims} dimensions, {hops} hops")
        try:
            header = cls(
                _KINDS.get(kind) or Kind(kind), stream, epoch, position, width,
                _FLAGS[flags] if flags < len(_FLAGS) else Flags(flags), _DTYPES[dtype], tuple(shape[:dims]),
                [Hop(*_HOP.unpack_from(data, _HEAD.size + index * _HOP.size)) for index in range(hops)],
            )  # fmt: skip
        except ValueError as error:
            raise ProtocolError(f"tensor header: {error}") from error
        if header.nbytes != nbytes or nbytes > limit:
            raise ProtocolError(f"tensor of {nbytes} bytes, shape says {header.nbytes}, limit is {limit}")
        return header
