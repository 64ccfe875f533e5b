"""What tests over the lab share: where it cannot run they are skipped with its own sentence."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from lablib.lab import Lab
from lablib.system import missing

from nova.clock import Deadline

needs_lab = pytest.mark.skipif(bool(missing()), reason=missing())

PORT = 7000

ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("listening", flush=True)
    while True:
        with server.accept()[0] as peer:
            while data := peer.recv(1 << 16):
                peer.sendall(data)
"""

DIAL = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as peer:
        peer.sendall(b"hello")
        print(peer.recv(16).decode() or "closed")
except OSError as error:
    print(f"no: {error}")
"""


def python(program: str, *arguments: object) -> list[str]:
    """A command that runs a short program."""
    return [sys.executable, "-S", "-c", program, *map(str, arguments)]


def listen(lab: Lab, host: str, address: str = "0.0.0.0") -> None:
    """Echo whatever comes to `address`, until the lab ends; returns once it listens."""
    child = lab.popen(host, python(ECHO, address, PORT), stdout=-1)
    assert child.stdout is not None
    assert child.stdout.readline() == b"listening\n"


def dial(lab: Lab, host: str, address: str, limit_s: float = 2.0) -> str:
    """ "hello" when a connection to PORT at `address` comes about, else why not."""
    return lab.run(host, python(DIAL, address, PORT, limit_s)).stdout.strip()


def states(lab: Lab, host: str, pids: Sequence[int]) -> set[str]:
    """How the kernel has these processes: T is stopped."""
    read = "import sys\nfor pid in sys.argv[1:]: print(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0])"
    return set(lab.run(host, python(read, *pids)).stdout.split())


def read_until(process: subprocess.Popen[Any], text: str, limit_s: float) -> None:
    """Read what it prints until `text` is in it. Raises AssertionError at the limit, and when it ends before."""
    assert process.stdout is not None
    deadline, seen = Deadline.after(limit_s), b""
    while text.encode() not in seen:
        ready, _, _ = select.select([process.stdout], [], [], deadline.remaining())
        assert ready, f"{text!r} did not come within {limit_s:g} s; there was {seen!r}"
        data = os.read(process.stdout.fileno(), 4096)
        assert data, f"the command ended without {text!r}; there was {seen!r}"
        seen += data
