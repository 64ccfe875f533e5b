"""How much memory a process could still take, as the system tells it and without MLX."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def free_bytes(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """What is available, and no more than the limits of this process's control groups leave of it."""
    available: int = psutil.virtual_memory().available
    return max(0, min([available, *_left(cgroups, membership)]))


def _left(cgroups: Path, membership: Path) -> Iterator[int]:
    """What each limited group that we are in leaves: its limit, without what is in use and not a mere file cache."""
    for folder, limit_name, used_name in _groups(cgroups, membership):
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        if limit is not None and used is not None:
            yield limit - used + _file_cache(folder)


def _groups(cgroups: Path, membership: Path) -> Iterator[tuple[Path, str, str]]:
    """(folder, file of the limit, file of the use): ours and all above it, of both versions of control groups."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = cgroups / controllers
        inside = root / path.lstrip("/")
        files = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        for folder in (inside, *inside.parents):
            yield folder, *files
            if folder == root:
                break


def _number(file: Path) -> int | None:
    """None where there is no such file, or no limit in it ("max")."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _file_cache(folder: Path) -> int:
    """Bytes that the kernel takes back as soon as somebody needs them."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
