"""What this machine is: the facts a node sends in its Hello."""

from __future__ import annotations

import os
import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from nova import __version__
from nova.wire.values import NodeFacts


def gather() -> NodeFacts:
    """Read-only and quick: no command is run, no library is loaded."""
    return NodeFacts(
        host=socket.gethostname(),
        system=f"{platform.system()} {platform.mac_ver()[0] or platform.release()}",
        arch=platform.machine(),
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        boot_id=boot_id(),
        python=platform.python_version(),
        nova=__version__,
        mlx=_version("mlx"),
    )


def boot_id() -> str:
    """Equal for two processes exactly when they share a monotonic clock: same machine, same boot."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    return f"{platform.node()}-{int(psutil.boot_time())}"


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def default_name() -> str:
    """This host's short name, with what a node's name may not hold replaced."""
    short = socket.gethostname().partition(".")[0]
    name = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in short)
    return name.strip("._-")[:63] or "node"
