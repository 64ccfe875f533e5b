"""Commands of macOS that print what a test wants, on a PATH of the test's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.plugins.jaccl import samples

OUTPUTS = {
    "sw_vers": "26.5.1\n",
    "system_profiler": samples.profile(
        samples.bus(1, "Up to 120 Gb/s"), samples.bus(4, "80 Gb/s", samples.other_mac("END-B"), uuid="END-A")
    ),
    "networksetup": samples.NETWORKSETUP,
    "ifconfig": samples.IFCONFIG,
    "rdma_ctl": "enabled\n",
    "ibv_devices": samples.IBV_DEVICES,
    "ibv_devinfo": samples.IBV_DEVINFO,
}
"""A Mac with one usable port: Thunderbolt 4, en2."""

HANGS = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('begun', flush=True)\nsignal.pause()\n"
"""Ignores SIGTERM, as a process inside the RDMA driver does."""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, scripts: Mapping[str, str]) -> None:
    """Python sources as commands, the only ones on the PATH."""
    folder.mkdir(exist_ok=True)
    for name, source in scripts.items():
        path = folder / name
        path.write_text(f"#!{sys.executable} -IS\n{source}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def printing(outputs: Mapping[str, str] = OUTPUTS) -> dict[str, str]:
    return {name: f"print({output!r}, end='')" for name, output in outputs.items()}
