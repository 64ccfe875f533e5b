"""What MLX reads from the environment and from a file when it forms a ring."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def described(rank: int, hosts: Sequence[Sequence[str]], verbose: bool) -> Iterator[None]:
    """The environment of `rank`, with a host file that only this user can read; both are as before afterwards.

    A process that is killed inside MLX's init leaves the file, which holds addresses only, in the temporary folder.
    """
    descriptor, path = tempfile.mkstemp(prefix="nova-ring-", suffix=".json")
    values = {"MLX_HOSTFILE": path, "MLX_RANK": str(rank), "MLX_RING_VERBOSE": "1" if verbose else None}
    before = {name: os.environ.get(name) for name in values}
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(hosts, file)
        _set(values)
        yield
    finally:
        _set(before)
        Path(path).unlink(missing_ok=True)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
