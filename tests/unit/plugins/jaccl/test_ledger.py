"""Failed starts are counted per boot, before they begin, whatever ends them."""

from __future__ import annotations

import fcntl
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from nova_transport_jaccl import ledger as module
from nova_transport_jaccl.ledger import Ledger

from nova.errors import TransportUnavailable

BOOT_S = 1_790_000_000.0

START_AND_DIE = """
import os, sys
from pathlib import Path
from nova_transport_jaccl.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), float(sys.argv[2]))
ledger.begin()
if sys.argv[3] == "succeed":
    ledger.succeeded()
os.kill(os.getpid(), int(sys.argv[4]))
"""


def start_and_die(path: Path, outcome: str, number: int) -> None:
    command = [sys.executable, "-c", START_AND_DIE, str(path), str(BOOT_S), outcome, str(number)]
    done = subprocess.run(command, timeout=30, check=False)
    assert done.returncode == -number


def test_a_start_is_counted_until_it_has_succeeded(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run" / "ledger.json", BOOT_S)
    assert ledger.failed() == 0
    ledger.begin()
    assert ledger.failed() == 1
    ledger.succeeded()
    assert ledger.failed() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_process_killed_inside_a_start_stays_counted(tmp_path: Path, number: int) -> None:
    path = tmp_path / "ledger.json"
    start_and_die(path, "fail", number)
    start_and_die(path, "succeed", number)
    assert Ledger(path, BOOT_S).failed() == 1


def test_a_restart_begins_anew_and_a_set_clock_does_not(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    Ledger(path, BOOT_S).begin()
    assert Ledger(path, BOOT_S + 5).failed() == 1
    assert Ledger(path, BOOT_S + 300).failed() == 0
    Ledger(path, BOOT_S + 300).begin()
    assert Ledger(path, BOOT_S + 300).failed() == 1


def test_its_files_are_this_users_alone(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.json", BOOT_S).begin()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot_s": "x", "failed": 1}', "\0" * 5000])
def test_a_malformed_file_counts_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(content)
    ledger = Ledger(path, BOOT_S)
    assert ledger.failed() == 0
    ledger.begin()
    assert ledger.failed() == 1


def test_starts_of_many_processes_are_all_counted(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    command = [sys.executable, "-c", START_AND_DIE, str(path), str(BOOT_S), "fail", str(int(signal.SIGKILL))]
    running = [subprocess.Popen(command) for _ in range(6)]
    for process in running:
        process.wait(30)
    assert Ledger(path, BOOT_S).failed() == 6
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ledger.json", "ledger.lock"]


def test_a_lock_that_is_never_freed_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_S", 0.1)
    with (tmp_path / "ledger.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TransportUnavailable, match=r"ledger\.lock is locked by a process that does not go on"):
            Ledger(tmp_path / "ledger.json", BOOT_S).begin()


def test_a_place_that_cannot_be_written_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TransportUnavailable, match="set NOVA_HOME"):
        Ledger(tmp_path / "file" / "ledger.json", BOOT_S).begin()


def test_the_ledger_of_this_machine_is_in_novas_home(nova_home: Path) -> None:
    Ledger.of_this_machine().begin()
    assert (nova_home / "run" / module.FILE).is_file()
    assert Ledger.of_this_machine().failed() == 1


class LedgerMachine(RuleBasedStateMachine):
    """Against a plain count: starts, ends, restarts, in any order, each step through a fresh object."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.boot_s, self.failed, self.under_way = BOOT_S, 0, 0

    def teardown(self) -> None:
        self.folder.cleanup()

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / "ledger.json"

    def ledger(self) -> Ledger:
        return Ledger(self.path, self.boot_s)

    @rule()
    def start(self) -> None:
        self.ledger().begin()
        self.failed += 1
        self.under_way += 1

    @rule()
    def succeed(self) -> None:
        if self.under_way:
            self.ledger().succeeded()
            self.failed -= 1
            self.under_way -= 1

    @rule()
    def die(self) -> None:
        self.under_way = max(0, self.under_way - 1)

    @rule(uptime_s=st.floats(60, 1e6))
    def restart(self, uptime_s: float) -> None:
        self.boot_s += uptime_s
        self.failed = self.under_way = 0

    @rule(step_s=st.floats(-10, 10))
    def read_with_a_set_clock(self, step_s: float) -> None:
        assert Ledger(self.path, self.boot_s + step_s).failed() == self.failed

    @invariant()
    def counts(self) -> None:
        assert self.ledger().failed() == self.failed


TestAnyOrderOfStartsAndEndsIsCounted = LedgerMachine.TestCase
TestAnyOrderOfStartsAndEndsIsCounted.settings = settings(max_examples=30, stateful_step_count=20)
