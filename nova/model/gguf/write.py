"""Writing a model folder: shards by layer, an index, and a folder that appears whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx

from nova.errors import ModelError

SHARD_BYTES = 100_000_000
"""About the size of a shard; small ones let a stage open few files that hold foreign layers."""


def group_shards(sizes: Iterable[tuple[str, str, int]], limit: int = SHARD_BYTES) -> list[list[str]]:
    """Cut (name, unit, bytes) into shards of names, in order; a unit (a layer) is never cut, only ever overfull."""
    shards: list[list[str]] = []
    held = 0
    units: dict[str, list[tuple[str, int]]] = {}
    for name, unit, nbytes in sizes:
        units.setdefault(unit, []).append((name, nbytes))
    for members in units.values():
        weight = sum(nbytes for _, nbytes in members)
        if not shards or held + weight > limit:
            shards.append([])
            held = 0
        shards[-1] += [name for name, _ in members]
        held += weight
    return shards


class ShardWriter:
    """Writes shard after shard and, at the end, the index that mlx_lm and others read."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        self._written = 0
        self._index: dict[str, str] = {}
        self._total = 0

    def add(self, weights: dict[str, mx.array]) -> None:
        self._written += 1
        file = f"model-{self._written:05}-of-{self._count:05}.safetensors"
        mx.save_safetensors(str(self._folder / file), weights, metadata={"format": "mlx"})
        self._index.update(dict.fromkeys(weights, file))
        self._total += sum(value.nbytes for value in weights.values())

    def finish(self) -> None:
        index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(self._index.items()))}
        write_json(self._folder / "model.safetensors.index.json", index)


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def whole_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A folder to write into, which takes the name `folder` when the block ends well and vanishes otherwise.

    Raises ModelError when `folder` exists, unless `overwrite` is set and it is a model or empty.
    """
    check_free(folder, overwrite)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        # One level below, because the outer folder is private to this user and a model need not be.
        fresh = work / "new"
        fresh.mkdir()
        yield fresh
        check_free(folder, overwrite)
        _take_place(fresh, folder, work / "old")
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _take_place(fresh: Path, folder: Path, aside: Path) -> None:
    replaced = folder.exists()
    if replaced:
        folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError:
        if replaced:
            aside.rename(folder)
        raise


def check_free(folder: Path, overwrite: bool) -> None:
    """Raises ModelError unless a model may be written to `folder`."""
    if not (folder.exists() or folder.is_symlink()):
        return
    if not overwrite:
        raise ModelError(f"{folder}: exists already; choose another name, or overwrite it")
    if folder.is_symlink() or not folder.is_dir() or (any(folder.iterdir()) and not (folder / "config.json").is_file()):
        raise ModelError(f"{folder}: is not a model folder, so it will not be overwritten")
