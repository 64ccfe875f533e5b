"""Engines that no mpirun started become an MPI world, and leave nothing of it."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import psutil
import pytest

from .ranks import LIMIT_S, descendants, executable, folder_of, gather, gone, ranks


def test_every_rank_hears_why_mpirun_failed(tmp_path: Path) -> None:
    with ranks(
        "wait", size=3, mpirun=executable(tmp_path, r"import sys; sys.exit('------\nno ssh to mini\n------')")
    ) as all_ranks:
        for rank, said in enumerate(gather(all_ranks)):
            assert said.startswith("failed forming over mpi failed in phase join")
            assert f"at rank {rank}" in said
            assert "no ssh to mini" in said
            assert "---" not in said


def test_an_mpirun_that_says_nothing_is_ended_and_named(tmp_path: Path) -> None:
    silent = executable(
        tmp_path, f"import os, signal; open('{tmp_path}/pid', 'w').write(str(os.getpid())); signal.pause()"
    )
    with ranks("wait", mpirun=silent, join_s=1.0) as all_ranks:
        assert all("in time" in said for said in gather(all_ranks))
        pid = int((tmp_path / "pid").read_text())
        for each in all_ranks:
            assert each.process.wait(LIMIT_S) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("whole_session", [False, True], ids=["the engine alone", "its process group"])
def test_a_killed_rank_0_takes_mpirun_and_its_files_along(whole_session: bool) -> None:
    with ranks("wait") as all_ranks:
        assert gather(all_ranks) == ["joined", "joined"]
        started = descendants(all_ranks[0].process.pid)
        folder = folder_of(started)
        assert list(folder.glob("**/sm_segment*"))
        (os.killpg if whole_session else os.kill)(all_ranks[0].process.pid, signal.SIGKILL)
        assert gone(started, folder)


@pytest.mark.parametrize("over_tcp", [False, True], ids=["shared memory", "tcp"])
def test_what_was_sent_before_a_close_arrives_and_mpirun_ends_with_the_group(over_tcp: bool) -> None:
    with ranks("close", over_tcp=over_tcp) as all_ranks:
        assert gather(all_ranks) == ["joined", "joined"]
        assert [all_ranks[1].line() for _ in range(3)] == [f"came {{{index}}}" for index in range(3)]
        assert all_ranks[0].line() == "closed []"


def test_a_killed_rank_is_not_seen_by_a_receive_that_waits_for_it() -> None:
    """Why PEER_FAILURE is not declared: should this change, it can be."""
    with ranks("wait-for-1") as all_ranks:
        assert gather(all_ranks) == ["joined", "joined"]
        waiting = all_ranks[0].process
        assert waiting.stdout is not None
        os.kill(all_ranks[1].process.pid, signal.SIGKILL)
        ready, _, _ = select.select([waiting.stdout], [], [], 1.0)
        assert not ready
        assert waiting.poll() is None


@pytest.mark.alone  # looks at its connections in the moment in which they stand
def test_ranks_of_several_machines_connect_within_the_network_of_their_addresses() -> None:
    with ranks("close", over_tcp=True) as all_ranks:
        assert gather(all_ranks) == ["joined", "joined"]
        assert [all_ranks[1].line() for _ in range(3)] == [f"came {{{index}}}" for index in range(3)]
        ends = psutil.Process(all_ranks[0].process.pid).net_connections("inet")
        assert {end.laddr.ip for end in ends if end.status == psutil.CONN_ESTABLISHED} == {"127.0.0.1"}
