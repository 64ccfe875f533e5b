"""The start-up scripts: which Python they take, and what they say when they cannot go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.project import ROOT

SCRIPTS = [
    ROOT / name
    for name in ("tools/setup", "tools/check", "tools/test", "tools/demo", "tools/bench", "tools/lab", ".ci/run")
]
BASH = shutil.which("bash") or "/bin/bash"


def bare_path(tmp_path: Path, **programs: str) -> Path:
    """A folder for PATH that holds no more than `setup python` needs, and `programs` as shell scripts."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("dirname", "bash", "env"):
        (folder / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
    for name, body in programs.items():
        script = folder / name.replace("_", ".")
        script.write_text(f"#!{BASH}\n{body}\n")
        script.chmod(0o755)
    return folder


def chosen(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [BASH, str(ROOT / "tools" / "setup"), "python"]
    environment = {"PATH": str(folder), "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)


def test_a_shim_with_nothing_behind_it_is_passed_over(tmp_path: Path) -> None:
    real = f'exec "{sys.executable}" "$@"'
    folder = bare_path(tmp_path, python3_14="echo no such version >&2; exit 127", python3_12=real)
    done = chosen(folder)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder / "python3.12"))


def test_without_a_fitting_python_every_candidate_s_reason_is_named(tmp_path: Path) -> None:
    done = chosen(bare_path(tmp_path, python3_13="exit 127", python3="echo is Python 3.9"))
    assert done.returncode == 1
    assert "Nova needs Python 3.11 or newer" in done.stderr
    assert "python3.13 does not run" in done.stderr
    assert "python3 is Python 3.9" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_started_parses_and_stops_at_the_first_error(script: Path) -> None:
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    subprocess.run([BASH, "-n", str(script)], check=True, timeout=30)
