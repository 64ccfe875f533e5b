"""CPU quotas by cgroup: the `cpu` controller of version 1, or of version 2 where the root delegates it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lablib.errors import LabError
from lablib.system import until
from nova.clock import Deadline

PERIOD_US = 20_000
"""Short, so that a small quota is a slow machine rather than one that stands still for tenths of a second."""
MOUNTS = Path("/proc/mounts")


@dataclass(frozen=True)
class Controller:
    """Where groups are made, and how a quota is written."""

    root: Path
    version: int

    def limit(self, group: str, percent: int) -> None:
        """Make a group with a quota in percent of one CPU. Raises LabError."""
        folder, quota_us = self.root / group, percent * PERIOD_US // 100
        try:
            folder.mkdir(exist_ok=True)
            if self.version == 2:
                (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            else:
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        except OSError as error:
            raise LabError(f"cgroup {folder}: {error.strerror}") from error

    def members(self, group: str) -> Path:
        """The file that takes the process ids."""
        return self.root / group / "cgroup.procs"

    def groups(self, prefix: str) -> list[Path]:
        return sorted(self.root.glob(f"{prefix}*"))


def find() -> Controller | None:
    """This machine's controller; None without one."""
    try:
        mounts = MOUNTS.read_text()
    except OSError:
        return None
    found = mounted(mounts)
    if found is not None and found.version == 2:
        control = found.root / "cgroup.subtree_control"
        try:
            if "cpu" not in control.read_text().split():
                control.write_text("+cpu")
        except OSError:
            return None
    return found


def mounted(mounts: str) -> Controller | None:
    """The `cpu` controller among the lines of /proc/mounts: version 1 where it has it, else version 2. Pure."""
    lines = [fields for line in mounts.splitlines() if len(fields := line.split()) >= 4]
    for _, where, kind, options, *_ in lines:
        if kind == "cgroup" and "cpu" in options.split(","):
            return Controller(Path(where), 1)
    for _, where, kind, *_ in lines:
        if kind == "cgroup2":
            return Controller(Path(where), 2)
    return None


def remove(folder: Path, deadline: Deadline) -> None:
    """Remove a group whose processes are ending. Raises LabError at the deadline."""

    def gone() -> bool:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:  # a process that was killed is still on its way out
            return False
        return True

    if not until(gone, deadline):
        raise LabError(f"cgroup {folder} still has processes")
