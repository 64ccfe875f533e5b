"""The guard against processes left behind bites."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nova.clock import Deadline
from tests.structure.project import ROOT
from tests.support import processes

LEAVES_A_CHILD = """
import subprocess, sys
kept = []
def test_leaves_a_child():
    kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
"""

LEAVES_AN_ORPHAN = """
import subprocess, sys
def test_leaves_an_orphan():
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    subprocess.run([sys.executable, "-W", "ignore", "-c", child], check=True, timeout=30)
"""

USES_A_HELPER = """
import multiprocessing
def test_uses_multiprocessing():
    context = multiprocessing.get_context("spawn")
    context.Lock()
"""


def outcome(tmp_path: Path, test: str) -> tuple[int, str]:
    """Run `test` in a pytest of its own, under the project's conftest."""
    (tmp_path / "conftest.py").write_text(
        "from tests import conftest\nconftest.GRACE_S = 0.5\nfrom tests.conftest import *\n"
        "from tests.conftest import _no_child_left_behind, _no_orphan_left_behind\n"
    )
    (tmp_path / "test_it.py").write_text(test)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


def test_a_test_that_leaves_a_child_fails_and_the_child_is_killed(tmp_path: Path) -> None:
    code, out = outcome(tmp_path, LEAVES_A_CHILD)
    assert code == 1
    assert "the test left processes behind" in out
    assert "time.sleep(60)" in out


def test_a_run_that_leaves_an_orphan_fails(tmp_path: Path) -> None:
    code, out = outcome(tmp_path, LEAVES_AN_ORPHAN)
    assert code == 1
    assert "the test run left processes behind" in out


def test_python_s_own_helper_processes_do_not_count(tmp_path: Path) -> None:
    code, out = outcome(tmp_path, USES_A_HELPER)
    assert code == 0, out


def test_a_child_that_ends_by_itself_within_the_grace_does_not_count() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        before = processes.children()
        assert {one.pid for one in before} >= {child.pid}
        assert child.stdin
        child.stdin.close()
        assert processes.left_behind(lambda: processes.children() & before, Deadline.after(20)) == set()


def test_the_home_of_a_test_is_private_and_in_the_environment(nova_home: Path) -> None:
    assert os.environ["NOVA_HOME"] == str(nova_home)
    assert nova_home.stat().st_mode & 0o077 == 0
    assert list(nova_home.iterdir()) == []
