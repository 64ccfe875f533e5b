"""Finds processes that a test started and left behind."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator

import psutil

from nova.clock import Deadline

MARK = "NOVA_TEST_RUN"
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Helpers that Python starts once for itself and ends with itself."""


def mark_run() -> str:
    """Name this test run in the environment, which every process started from here on inherits."""
    os.environ[MARK] = secrets.token_hex(8)
    return os.environ[MARK]


def children() -> set[psutil.Process]:
    """The running children of this process, without Python's own helpers and without the dead."""
    return {child for child in psutil.Process().children() if _counts(child)}


def marked(run: str) -> set[psutil.Process]:
    """Every other running process that was started, at whatever remove, by the test run `run`."""
    return {process for process in psutil.process_iter() if process.pid != os.getpid() and _is_marked(process, run)}


def left_behind(find: Callable[[], set[psutil.Process]], deadline: Deadline) -> set[psutil.Process]:
    """What `find` still finds at the deadline; returns early, and empty, once it finds nothing."""
    pause = threading.Event()
    while (left := find()) and not deadline.expired:
        pause.wait(0.02)
    return left


def describe(process: psutil.Process) -> str:
    """Its id and command, or that it has ended meanwhile."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid} (ended)"


def kill(processes: set[psutil.Process]) -> Iterator[str]:
    """Kill them, so that the next test starts clean; yields what each was."""
    for process in processes:
        yield describe(process)
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _counts(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and not any(
            helper in part for part in process.cmdline() for helper in HELPERS
        )
    except psutil.Error:
        return False


def _is_marked(process: psutil.Process, run: str) -> bool:
    try:
        return process.environ().get(MARK) == run and _counts(process)
    except (psutil.Error, OSError):  # not ours to look into
        return False
