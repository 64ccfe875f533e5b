"""The header of a GGUF file, checked to the last tensor before anything else touches the file.

MLX's own reader trusts the file and may crash on a damaged one, so it only sees files that passed here.

    "GGUF", version u32, tensor count u64, metadata count u64
    metadata   key string, type u32, value
    tensors    name string, dimensions u32, sizes u64 (innermost first), type u32, offset u64
    padding to the alignment, then the data; offsets count from here
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

from nova.errors import ModelError

MAX_ENTRIES = 1 << 16
MAX_STRING_BYTES = 1 << 20
MAX_ARRAY = 1 << 22
MAX_HEADER_BYTES = 1 << 28

BLOCKS: dict[str, tuple[int, int]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q8_0": (32, 34),
}
"""Per tensor type that can be imported: values and bytes of a block."""

BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}

_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 30: "BF16",
}  # fmt: skip
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

_T = TypeVar("_T")


@dataclass(frozen=True)
class GGUFTensor:
    """`shape` is in row-major order, as MLX has it (the reverse of the file's)."""

    name: str
    shape: tuple[int, ...]
    type: str
    nbytes: int


@dataclass(frozen=True)
class GGUFHeader:
    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]

    def get(self, key: str, kind: type[_T], default: _T) -> _T:
        """A metadata value, or `default` without one. Raises ModelError when it is of another kind."""
        value = self.metadata.get(key, default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ModelError(f"{self.path}: {key} is a {type(value).__name__}, expected a {kind.__name__}")
        return value

    def require(self, key: str, kind: type[_T]) -> _T:
        """A metadata value. Raises ModelError when it is missing or of another kind."""
        if key not in self.metadata:
            raise ModelError(f"{self.path}: has no {key}")
        value: _T = self.get(key, kind, self.metadata[key])
        return value


class _Cursor:
    """Reads forward; never past the end of the file, never more than the header may have."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path = path
        self.file = file
        self.size = size
        self.at = 0

    def fail(self, why: str) -> NoReturn:
        raise ModelError(f"{self.path}: {why}")

    def take(self, count: int) -> bytes:
        if count > self.size - self.at:
            self.fail(f"truncated: the header goes on past the end at {self.size} bytes")
        self.at += count
        if self.at > MAX_HEADER_BYTES:
            self.fail(f"header larger than {MAX_HEADER_BYTES} bytes")
        return self.file.read(count)

    def unpack(self, layout: str, count: int = 1) -> tuple[Any, ...]:
        form = f"<{count}{layout}"
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def number(self, layout: str) -> int:
        value: int = self.unpack(layout)[0]
        return value

    def string(self) -> str:
        length = self.number("Q")
        if length > MAX_STRING_BYTES:
            self.fail(f"a string of {length} bytes in the header, limit is {MAX_STRING_BYTES}")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"{self.path}: a string in the header is not UTF-8") from error

    def value(self, key: str) -> Any:
        kind = self.number("I")
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array(key)
        return self.unpack(self.scalar(key, kind))[0]

    def array(self, key: str) -> list[Any]:
        kind, count = self.number("I"), self.number("Q")
        if count > MAX_ARRAY:
            self.fail(f"{key} has {count} entries, limit is {MAX_ARRAY}")
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        return list(self.unpack(self.scalar(key, kind), count))

    def scalar(self, key: str, kind: int) -> str:
        if kind not in _SCALARS:
            self.fail(f"{key} has a value of the unknown type {kind}")
        return _SCALARS[kind]


def read_gguf(path: Path) -> GGUFHeader:
    """Read and check the header. Raises ModelError that names the file and what was expected."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _read(_Cursor(path, file, size))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read(cursor: _Cursor) -> GGUFHeader:
    if cursor.size < 24 or cursor.take(4) != b"GGUF":
        cursor.fail("not a GGUF file")
    version = cursor.number("I")
    if version not in (2, 3):
        cursor.fail(f"GGUF version {version}, expected 2 or 3 in little-endian order")
    tensor_count, metadata_count = cursor.number("Q"), cursor.number("Q")
    if tensor_count > MAX_ENTRIES or metadata_count > MAX_ENTRIES:
        cursor.fail(f"{tensor_count} tensors and {metadata_count} metadata entries, limit is {MAX_ENTRIES} each")
    metadata: dict[str, Any] = {}
    for _ in range(metadata_count):
        key = cursor.string()
        if key in metadata:
            cursor.fail(f"{key} stands twice in the metadata")
        metadata[key] = cursor.value(key)
    header = GGUFHeader(cursor.path, metadata, {})
    alignment = header.get("general.alignment", int, 32)
    if not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        cursor.fail(f"general.alignment is {alignment}, expected a power of two")
    ends: list[tuple[str, int]] = []
    for _ in range(tensor_count):
        tensor, offset = _tensor(cursor, alignment)
        if tensor.name in header.tensors:
            cursor.fail(f"tensor {tensor.name} stands twice in the header")
        header.tensors[tensor.name] = tensor
        ends.append((tensor.name, offset + tensor.nbytes))
    room = cursor.size - (cursor.at + -cursor.at % alignment)
    for name, end in ends:
        if end > room:
            cursor.fail(f"truncated: tensor {name} ends {end - room} bytes past the end of the file")
    return header


def _tensor(cursor: _Cursor, alignment: int) -> tuple[GGUFTensor, int]:
    name, dimensions = cursor.string(), cursor.number("I")
    if not 1 <= dimensions <= 4:
        cursor.fail(f"tensor {name} has {dimensions} dimensions, expected 1 to 4")
    sizes = cursor.unpack("Q", dimensions)
    code, offset = cursor.number("I"), cursor.number("Q")
    kind = _TYPES.get(code, f"number {code}")
    if kind not in BLOCKS:
        cursor.fail(f"tensor {name} is of type {kind}; {', '.join(BLOCKS)} can be imported")
    values, block_bytes = BLOCKS[kind]
    if 0 in sizes or sizes[0] % values:
        cursor.fail(f"tensor {name} has sizes {list(sizes)}, and {kind} needs rows of a multiple of {values}")
    if offset % alignment:
        cursor.fail(f"tensor {name} lies at {offset}, which is not aligned to {alignment}")
    return GGUFTensor(name, tuple(reversed(sizes)), kind, prod(sizes) // values * block_bytes), offset
