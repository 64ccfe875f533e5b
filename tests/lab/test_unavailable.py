"""Where the lab cannot run, it says so in a sentence and ends with status 3."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.project import ROOT


def test_without_iproute2_the_command_says_what_to_install(tmp_path: Path) -> None:
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("here the lab misses more than iproute2")
    for tool in ("bash", "dirname", "env"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
    done = command(tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("lab: the lab needs `ip`: install iproute2")
    assert len(done.stderr.splitlines()) == 1


def test_another_user_is_told_to_be_root(tmp_path: Path) -> None:
    found = asked_as("sys.platform = 'linux'; os.geteuid = lambda: 1000")
    assert found.startswith("the lab needs root")


def test_another_system_is_told_that_it_needs_linux() -> None:
    assert asked_as("sys.platform = 'darwin'") == "the lab needs Linux: its hosts are network namespaces"


def command(path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NOVA_PYTHON": sys.executable, "PATH": str(path)}
    tool = str(ROOT / "tools" / "lab")
    return subprocess.run([tool, "up"], env=environment, capture_output=True, text=True, timeout=30, check=False)


def asked_as(who: str) -> str:
    """What the lab says is missing in a process that takes itself for `who`."""
    program = f"import os, sys\n{who}\nfrom lablib.system import missing\nprint(missing())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tools"), str(ROOT)])}
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()
