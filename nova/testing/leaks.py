"""What this process holds: descriptors, threads and children."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

import psutil

from nova.clock import Deadline

SETTLE_S = 2.0
"""s; threads and sockets that are ending may take this long."""

_looking = threading.Lock()
"""Looking takes a descriptor itself, and ranks that are threads look at the same time."""


@dataclass(frozen=True)
class Held:
    """Counts of what is held."""

    descriptors: int
    threads: int
    children: int

    def __le__(self, other: Held) -> bool:
        return not self.above(other)

    def above(self, other: Held) -> str:
        """What is held more than in `other`, in words."""
        more = {kind: getattr(self, kind) - getattr(other, kind) for kind in ("descriptors", "threads", "children")}
        return ", ".join(f"{count} {kind}" for kind, count in more.items() if count > 0)


def held() -> Held:
    """What this process holds at this moment. Threads of libraries count where the system lists them (Linux)."""
    with _looking:
        descriptors = os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")
        listed = os.path.isdir("/proc/self/task")
        threads = len(os.listdir("/proc/self/task")) if listed else threading.active_count()
        return Held(len(descriptors), threads, len(psutil.Process().children()))


def settles(before: Held) -> Held:
    """What is held once it is no more than before, or after a while."""
    end = Deadline.after(SETTLE_S)
    pause = threading.Event()
    while not (after := held()) <= before and not end.expired:
        pause.wait(0.01)
    return after
