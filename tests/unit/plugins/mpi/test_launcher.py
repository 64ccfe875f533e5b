"""mpirun as a child, started for real, and how it is told what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from nova_transport_mpi import MpiConfig
from nova_transport_mpi.launcher import END_S, WORDS, Launcher, LaunchFailed, command, last_words
from nova_transport_mpi.library import launcher as mpirun_of

from nova.clock import Deadline
from nova.errors import ProtocolError

from .ranks import LIMIT_S, executable, gone

MPIRUN = mpirun_of(MpiConfig())


@contextmanager
def launched(mpirun: str, size: int) -> Iterator[Launcher]:
    launcher = Launcher(mpirun, size, [])
    try:
        yield launcher
    finally:
        launcher.end()
        launcher.wait(Deadline.after(END_S))


def process_of(launcher: Launcher) -> psutil.Process:
    """Not simply our child: a test run has others."""
    return psutil.Process(launcher._process.pid)


def test_every_rank_gets_a_place_of_its_own_in_one_world_and_nothing_is_left() -> None:
    with launched(MPIRUN, 3) as launcher:
        places = launcher.places(3, Deadline.after(LIMIT_S))
        assert [place["PMIX_RANK"] for place in places] == ["0", "1", "2"]
        assert len({place["PMIX_NAMESPACE"] for place in places}) == 1
        assert all(place["PMIX_SERVER_TMPDIR"].startswith(launcher.folder) for place in places)
        mpirun = process_of(launcher)
        started = [mpirun, *mpirun.children(recursive=True)]
        assert len(started) == 4  # mpirun and three copies
    assert gone(started, Path(launcher.folder))


def test_the_copies_end_when_mpirun_is_killed() -> None:
    with launched(MPIRUN, 2) as launcher:
        launcher.places(2, Deadline.after(LIMIT_S))
        mpirun = process_of(launcher)
        copies = mpirun.children()
        mpirun.kill()
        assert gone(copies, Path(launcher.folder))


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("import sys; sys.exit('ssh: no route to host')", LaunchFailed, "no route to host"),
        ("", LaunchFailed, "it said nothing"),
        ("while True: print('x' * 4000)", ProtocolError, "wrote more than"),
        ("print('<0 AAA>')", ProtocolError, "rank 0"),
    ],
    ids=["a reason", "silence", "a flood", "a malformed place"],
)
def test_an_mpirun_that_makes_no_world_is_named(tmp_path: Path, text: str, error: type[Exception], reason: str) -> None:
    with launched(executable(tmp_path, text), 2) as launcher, pytest.raises(error, match=reason):
        launcher.places(2, Deadline.after(LIMIT_S))
    assert not Path(launcher.folder).exists()


def test_an_mpirun_that_cannot_be_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nova_transport_mpi.launcher.MEMORY", str(tmp_path))
    with pytest.raises(OSError, match="mpirun"):
        Launcher(str(tmp_path / "mpirun"), 2, [])
    assert not list(tmp_path.iterdir())


def test_hosts_are_given_in_the_order_of_ranks() -> None:
    told = command("mpirun", 3, ["10.0.0.2", "10.0.0.1", "10.0.0.2"], "/folder")
    assert told[told.index("--host") + 1] == "10.0.0.2,10.0.0.1,10.0.0.2"
    assert "--host" not in command("mpirun", 3, [], "/folder")


@pytest.mark.skipif(shutil.which("ssh") is None, reason="mpirun reaches other hosts by ssh")
def test_a_host_that_mpirun_cannot_reach_is_named() -> None:
    launcher = Launcher(MPIRUN, 2, ["127.0.0.1", "127.0.0.2"])
    try:
        with pytest.raises(LaunchFailed, match=r"ssh.*127\.0\.0\.2"):
            launcher.places(2, Deadline.after(LIMIT_S))
    finally:
        launcher.end()
        launcher.wait(Deadline.after(END_S))


def test_last_words_are_one_bounded_line_without_rules() -> None:
    assert last_words("-----\nno ssh\n\nto mini\n-----\n") == "no ssh to mini"
    assert len(last_words("x" * 10_000)) == WORDS
    assert last_words("---\n") == "it said nothing"
