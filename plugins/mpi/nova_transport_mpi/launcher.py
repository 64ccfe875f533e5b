"""mpirun as a child: it makes an MPI world whose places engines take over."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nova.clock import Deadline
from nova.errors import ProtocolError
from nova_transport_mpi import place
from nova_transport_mpi.world import MAX_PLACE_BYTES, Place, records

MEMORY = "/dev/shm"
"""Where shared memory files live on Linux; elsewhere the folder for temporary files holds them."""

END_S = 1.0
"""s; mpirun has ended its copies by then (0.3 s measured here), or is killed."""

TAIL_BYTES = 4096
WORDS = 600
"""Characters of mpirun's last words that are shown."""


class LaunchFailed(Exception):
    """mpirun did not start the copies; the message is its last words."""


class Launcher:
    """One running mpirun. It ends with `end`, and with this process."""

    def __init__(self, mpirun: str, size: int, hosts: Sequence[str]) -> None:
        """`hosts` are the ranks' addresses, empty when all ranks share this machine. Raises OSError."""
        self.folder = tempfile.mkdtemp(prefix="nova-mpi-", dir=MEMORY if os.path.isdir(MEMORY) else None)
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._lifeline = undo.enter_context(socket.socket(socket.AF_UNIX))
            self._lifeline.bind(os.path.join(self.folder, place.SOCKET))
            self._lifeline.listen(1)  # nobody accepts: a connection that waits ends with the listener
            self._errors = undo.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                command(mpirun, size, hosts, self.folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment(self.folder),
            )
            undo.pop_all()

    def places(self, size: int, deadline: Deadline) -> list[Place]:
        """What each copy was given, by rank. Raises LaunchFailed and ProtocolError."""
        assert self._process.stdout is not None
        source, said, found = self._process.stdout.fileno(), b"", dict[int, Place]()
        poller = select.poll()
        poller.register(source, select.POLLIN)
        while found.keys() != set(range(size)):
            if not poller.poll(deadline.remaining() * 1000):
                missing = ", ".join(str(rank) for rank in range(size) if rank not in found)
                raise LaunchFailed(f"mpirun did not start the copy of rank {missing} in time. {self._last_words()}")
            piece = os.read(source, MAX_PLACE_BYTES)
            said += piece
            if not piece:
                with contextlib.suppress(subprocess.TimeoutExpired):  # its last words come with its end
                    self._process.wait(min(END_S, deadline.remaining()))
                code = self._process.returncode
                raise LaunchFailed(f"mpirun ended (code {code}) before its copies started: {self._last_words()}")
            if len(said) > 2 * size * MAX_PLACE_BYTES:
                raise ProtocolError(f"mpirun wrote more than {len(said)} bytes")
            found = records(said)
        return [found[rank] for rank in range(size)]

    def end(self) -> None:
        """Let mpirun and its copies end. Never blocks; idempotent."""
        self._lifeline.close()

    def wait(self, deadline: Deadline) -> None:
        """After `end`: until mpirun has ended; at the deadline it is killed, and its copies see that."""
        try:
            self._process.wait(deadline.remaining())
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # not even the system can end it
                self._process.wait(END_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()
        shutil.rmtree(self.folder, ignore_errors=True)  # gone already, unless no copy of rank 0 ever ran

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - TAIL_BYTES))
        return last_words(self._errors.read().decode(errors="replace"))


def command(mpirun: str, size: int, hosts: Sequence[str], folder: str) -> list[str]:
    """One host was tested. Over several, mpirun reaches the others through ssh without a password, and needs Python,
    this package and Open MPI in the same folders everywhere."""
    where = ["--host", ",".join(hosts)] if hosts else []
    program = [sys.executable, "-I", "-S", str(Path(place.__file__).resolve()), folder]
    return [mpirun, "-np", str(size), "--oversubscribe", *where, *program]


def environment(folder: str) -> dict[str, str]:
    """mpirun's: what it and its copies leave goes into the folder."""
    variables = {**os.environ, "TMPDIR": folder}
    if os.geteuid() == 0:  # mpirun refuses root without both
        variables |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return variables


def last_words(errors: str) -> str:
    """The end of what mpirun wrote on standard error, without its rules, on one line."""
    lines = [line.strip() for line in errors.splitlines()]
    text = " ".join(line for line in lines if re.search(r"\w", line))
    return text[-WORDS:] or "it said nothing"
