"""The rim: commands of iproute2, processes of a namespace, and whether this machine can run the lab at all."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lablib.errors import LabError, LabUnavailable
from nova.clock import Deadline

CALL_S = 10.0
"""A command of iproute2 that takes longer hangs."""
LOOK_S = 0.01
"""Between two looks at something that is about to happen."""
NAMESPACES = Path("/run/netns")
"""Where iproute2 keeps its namespaces."""


def call(argv: Sequence[str], limit_s: float = CALL_S) -> str:
    """Run a command; its standard output. Raises LabError with what it said."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(argv)}` took longer than {limit_s:g} s") from error
    except OSError as error:
        raise LabError(f"`{' '.join(argv)}` cannot be run: {error.strerror}") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise LabError(f"`{' '.join(argv)}`: {said}")
    return done.stdout


@functools.cache
def missing() -> str:
    """Why this machine cannot run the lab, in one sentence; empty where it can."""
    if sys.platform != "linux":
        return "the lab needs Linux: its hosts are network namespaces"
    if os.geteuid() != 0:
        return "the lab needs root: run it as root, or in a container with CAP_NET_ADMIN and CAP_SYS_ADMIN"
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            return f"the lab needs `{program}`: install iproute2 (Debian: apt-get install iproute2)"
    try:
        with _probe() as there:
            call(["ip", "-n", there, "link", "add", "a0", "type", "veth", "peer", "name", "a1"])
            call(["ip", "-n", there, "link", "add", "b0", "type", "bridge"])
    except LabError as error:
        return f"the lab needs network namespaces, veth and bridges, and this kernel refuses one: {error}"
    return ""


@functools.cache
def delays() -> bool:
    """Whether this kernel can delay packets (netem)."""
    with _probe() as there:
        try:
            call(["tc", "-n", there, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"])
        except LabError:
            return False
    return True


def require() -> None:
    """Raises LabUnavailable."""
    if reason := missing():
        raise LabUnavailable(reason)


def pids(namespace: str) -> list[int]:
    """The processes in a namespace, apart from the dead."""
    return [int(word) for word in call(["ip", "netns", "pids", namespace]).split()]


def is_in(pid: int, namespace: str) -> bool:
    """Whether a process is in a namespace; False once it has ended."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(NAMESPACES / namespace).st_ino
    except OSError:
        return False


def signal_all(namespace: str, number: signal.Signals) -> int:
    """Signal every process of a namespace, also those that are started meanwhile; how many there were."""
    told: set[int] = set()
    while untold := set(pids(namespace)) - told:
        for pid in untold:
            _signal(pid, number)
        told |= untold
    return len(told)


def kill_all(namespace: str, deadline: Deadline) -> None:
    """Kill every process of a namespace and wait for its end. Raises LabError at the deadline."""

    def done() -> bool:
        return signal_all(namespace, signal.SIGKILL) == 0

    if not until(done, deadline):
        raise LabError(f"processes of {namespace} do not end: {', '.join(map(str, pids(namespace)))}")


def until(done: Callable[[], bool], deadline: Deadline) -> bool:
    """Look until it is done; False when it is not at the deadline."""
    pause = threading.Event()
    while not done():
        if deadline.expired:
            return False
        pause.wait(LOOK_S)
    return True


@contextmanager
def _probe() -> Iterator[str]:
    """A namespace to try things in."""
    name = f"novaprobe-{os.getpid()}"
    call(["ip", "netns", "add", name])
    try:
        yield name
    finally:
        call(["ip", "netns", "del", name])


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
