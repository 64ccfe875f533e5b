"""Ranks as processes, and what they share in their rendezvous. Every wait has a deadline."""

from __future__ import annotations

import base64
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from nova.clock import Deadline

from .rank import JOIN_S, Told

LIMIT_S = 20.0
GONE_S = 5.0
RANK = Path(__file__).with_name("rank.py")


class Process:
    """One rank."""

    def __init__(self, does: str, told: Told) -> None:
        seat = base64.b64encode(msgspec.json.encode(told)).decode()
        self.process = subprocess.Popen(
            [sys.executable, str(RANK), does, seat],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._rest = b""

    def line(self) -> str:
        """The next line it says; empty at its end."""
        assert self.process.stdout is not None
        deadline = Deadline.after(LIMIT_S)
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], deadline.remaining())
            assert ready, "the rank says nothing"
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                return ""
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def end(self) -> None:
        with self.process:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


@contextmanager
def ranks(
    does: str, size: int = 2, mpirun: str = "", join_s: float = JOIN_S, over_tcp: bool = False
) -> Iterator[list[Process]]:
    started = [Process(does, Told(rank, size, mpirun, join_s, over_tcp)) for rank in range(size)]
    try:
        yield started
    finally:
        for each in started:
            each.end()


def gather(all_ranks: list[Process]) -> list[str]:
    """Serve all-gathers until the ranks say something else: that."""
    while True:
        said = [each.line() for each in all_ranks]
        if not all(line.startswith("gather") for line in said):
            return said
        for each in all_ranks:
            each.tell(",".join(line.partition(" ")[2] for line in said))


def descendants(pid: int) -> list[psutil.Process]:
    return list(psutil.Process(pid).children(recursive=True))


def folder_of(mpirun: Sequence[psutil.Process]) -> Path:
    """The folder that the copies among these processes were told."""
    return Path(next(each for each in mpirun if "place.py" in " ".join(each.cmdline()[:-1])).cmdline()[-1])


def gone(processes: Sequence[psutil.Process], folder: Path) -> bool:
    """Whether they have ended, and the folder is removed, within a few seconds."""
    _, alive = psutil.wait_procs(processes, timeout=GONE_S)
    deadline, pause = Deadline.after(GONE_S), threading.Event()
    while folder.exists() and not deadline.expired:
        pause.wait(0.01)
    return not alive and not folder.exists()


def executable(folder: Path, text: str) -> str:
    """A program in mpirun's place."""
    path = folder / "mpirun"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o700)
    return str(path)
