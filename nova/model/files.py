"""Reading the small files of a model folder: JSON, and the headers of safetensors files. Bounded, typed, no MLX."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from nova.errors import ModelError

MAX_JSON_BYTES = 64 << 20
MAX_HEADER_BYTES = 100_000_000
"""The safetensors format's own limit."""

_SIZES = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class TensorInfo(msgspec.Struct, frozen=True):
    """One tensor of a safetensors file; `data_offsets` count bytes from the end of the header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return self.data_offsets[1] - self.data_offsets[0]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError when it is missing, too large, or not an object."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_JSON_BYTES:
        raise ModelError(f"{path}: larger than {MAX_JSON_BYTES} bytes")
    try:
        # Not msgspec: Python's reader takes NaN and Infinity, which some published configurations have.
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def read_headers(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor of the folder's `model*.safetensors`, by name. Reads the headers only.

    Raises ModelError when there is no such file or one of them is malformed or truncated.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no model*.safetensors in it")
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        tensors.update(read_header(file))
    return tensors


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The header of one safetensors file. Raises ModelError when it is malformed or the file is too short for it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise ModelError(f"{path}: not a safetensors file, or a truncated one")
            header = file.read(length)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        entries = msgspec.json.decode(header, type=dict[str, dict[str, Any]])
        entries.pop("__metadata__", None)
        tensors = msgspec.convert(entries, dict[str, TensorInfo])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: malformed safetensors header: {error}") from error
    for name, tensor in tensors.items():
        _check(path, name, tensor, size - 8 - length)
    return tensors


def _check(path: Path, name: str, tensor: TensorInfo, room: int) -> None:
    begin, end = tensor.data_offsets
    if not 0 <= begin <= end <= room:
        raise ModelError(f"{path}: tensor {name!r} lies outside the file, which may be truncated")
    bits = _SIZES.get(tensor.dtype)
    if bits is None:
        raise ModelError(f"{path}: tensor {name!r} has the unknown dtype {tensor.dtype!r}")
    if any(side < 0 for side in tensor.shape) or prod(tensor.shape) * bits != tensor.nbytes * 8:
        raise ModelError(
            f"{path}: tensor {name!r} has {tensor.nbytes} bytes, not what {tensor.dtype} {tensor.shape} needs"
        )


def one_line(error: BaseException) -> str:
    """Another library's error as one line of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__
