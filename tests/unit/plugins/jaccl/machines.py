"""Machines for tests: facts of Macs as they could be, and of those that were recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from nova_transport_jaccl.commands import Ran
from nova_transport_jaccl.facts import Facts, Gid, Mlx, Peer, Port
from nova_transport_jaccl.gather import understand

from tests.structure.project import ROOT

RECORDED = ROOT.parent / "shared" / "fixtures" / "mac"
recorded_only = pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded outputs are not beside the repository")

MLX = Mlx("0.32.4", jaccl=True, factory=True)
FILES: dict[str, tuple[str, ...]] = {
    "sw_vers": ("sw_vers-productVersion.txt",),
    "system_profiler": ("system_profiler-SPThunderboltDataType*.json", "system_profiler-SPThunderboltDataType*.txt"),
    "networksetup": ("networksetup-listallhardwareports*.txt",),
    "ifconfig": ("ifconfig-*.txt",),
    "rdma_ctl": ("rdma_ctl-status.txt",),
    "ibv_devices": ("ibv_devices*.txt",),
    "ibv_devinfo": ("ibv_devinfo*.txt",),
}


def cable(a: int, b: int, wire: int = 0) -> tuple[str, str]:
    """The UUIDs of the end at Mac `a` and of the end at Mac `b`."""
    return f"END-{wire}-{a}-{b}", f"END-{wire}-{b}-{a}"


def port(number: int, uuid: str = "END-A", peer: str = "END-B", **changes: object) -> Port:
    """A port that is in order, but for the changes."""
    right = Port(
        str(number), 5, 80.0, uuid, (Peer(peer, "Mac Studio", True, 80.0),), f"en{number}", (f"169.254.0.{number}",),
        "", f"rdma_en{number}", "PORT_ACTIVE", (Gid(0, "fe80::1"), Gid(1, f"::ffff:169.254.0.{number}")),
    )  # fmt: skip
    return msgspec.structs.replace(right, **changes)


def mac(*ports: Port, **changes: object) -> Facts:
    """A Mac that is in order, but for the changes."""
    return msgspec.structs.replace(Facts("26.5.1", "enabled", ports or (port(1),), mlx=MLX), **changes)


def cabled(rank: int, ends: Mapping[int, int]) -> Facts:
    """Mac number `rank`, with so many cables to each other: {2: 1} is one to Mac 2."""
    ends_of = [cable(rank, other, wire) for other, count in ends.items() for wire in range(count)]
    return mac(*(port(number, *pair) for number, pair in enumerate(ends_of, start=1)))


def recorded(folder: str, prefix: str = "", macos: str = "26.5.1", **outputs: str) -> Facts:
    """The facts of a recorded machine; `outputs` stand for commands that were not recorded."""
    ran = {name: Ran(outputs.get(name, _recorded(RECORDED / folder, prefix, globs))) for name, globs in FILES.items()}
    if not ran["sw_vers"].output:
        ran["sw_vers"] = Ran(macos)
    return understand(ran, MLX)


def _recorded(folder: Path, prefix: str, globs: tuple[str, ...]) -> str:
    places = (folder, folder.parent) if folder.parent != RECORDED else (folder,)
    found = [path for place in places for glob in globs for path in sorted(place.glob(prefix + glob))]
    return found[0].read_text() if found else ""
