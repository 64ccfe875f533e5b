"""What MLX reads from the environment and from a file when it forms a JACCL group."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nova_transport_jaccl.facts import release
from nova_transport_jaccl.matrix import Plan

OWN_NAMES = {"rank": "JACCL_RANK", "devices": "JACCL_IBV_DEVICES", "coordinator": "JACCL_COORDINATOR",
             "ring": "JACCL_RING"}  # fmt: skip
OLD_NAMES = {"rank": "MLX_RANK", "devices": "MLX_IBV_DEVICES", "coordinator": "MLX_JACCL_COORDINATOR",
             "ring": "MLX_JACCL_RING"}  # fmt: skip
OWN_NAMES_SINCE = (0, 31, 2)

Variables = Mapping[str, str | None]
"""None removes a variable: one that is set for something else must not be taken for ours."""


def variables(plan: Plan, rank: int, devices: str, coordinator: str, mlx: str) -> Variables:
    """For MLX version `mlx`: `devices` is the path of the device file, `coordinator` is host:port of rank 0."""
    names = OWN_NAMES if release(mlx) >= OWN_NAMES_SINCE else OLD_NAMES
    values = {"rank": str(rank), "devices": devices, "coordinator": coordinator,
              "ring": "1" if plan.topology == "ring" else None}  # fmt: skip
    unset = dict.fromkeys([*OWN_NAMES.values(), *OLD_NAMES.values()])
    return {**unset, **{names[key]: value for key, value in values.items()}}


@contextmanager
def applied(values: Variables) -> Iterator[None]:
    """The environment with these values, and as it was before afterwards."""
    before = {name: os.environ.get(name) for name in values}
    try:
        _set(values)
        yield
    finally:
        _set(before)


@contextmanager
def device_file(plan: Plan) -> Iterator[str]:
    """The path of a temporary file with the matrix that only this user can read; removed afterwards."""
    descriptor, path = tempfile.mkstemp(prefix="nova-jaccl-", suffix=".json")
    try:
        rows = [[entry[0] if entry and len(entry) == 1 else entry for entry in row] for row in plan.matrix]
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(rows, file)
        yield path
    finally:
        Path(path).unlink(missing_ok=True)


def _set(values: Variables) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
