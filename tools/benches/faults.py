"""Which fault befalls which forming, drawn from a seed: equal in the bench and in every engine. Pure but `strike`."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import threading
from dataclasses import dataclass

from nova.errors import GroupBroken
from nova.wire import phases

FREE = 0.4
"""The share of formings without a fault."""
HELD_S = 0.3
"""The other rank opens so much later where a fault is to befall one that waits for its card."""
SEIZED_S = 3600

KILL, STOP, FAIL, HANG, SEIZE = "kill", "stop", "fail", "hang", "seize"
"""SIGKILL, SIGSTOP, an error, a wait without end, and one that holds the GIL, as MLX's init does."""

FAULTS = [
    *((how, phase) for how in (KILL, STOP) for phase in (phases.OPEN, phases.MEET, phases.JOIN, phases.VERIFY)),
    *((how, phase) for how in (FAIL, HANG, SEIZE) for phase in (phases.OPEN, phases.JOIN, phases.VERIFY)),
    *((KILL, phases.BOOT) for _ in range(3)),
    (STOP, phases.BOOT),
]
"""How and in which phase; a stop in boot lasts longest and so is as rare as any other."""


@dataclass(frozen=True)
class Fault:
    """What befalls the engine of `rank`. `after_s` is the time into the phase, for a fault that comes from outside."""

    how: str
    phase: str
    rank: int
    after_s: float

    def befalls(self, phase: str, rank: int) -> bool:
        return (self.phase, self.rank) == (phase, rank)


def fault(seed: int, generation: int, size: int) -> Fault | None:
    """The fault of a generation of `size` ranks; None for a forming without one."""
    draw = random.Random(f"{seed}/{generation}")
    if draw.random() < FREE:
        return None
    how, phase = draw.choice(FAULTS)
    return Fault(how, phase, draw.randrange(size), draw.uniform(0.0, HELD_S))


def ending(seed: int, generation: int, size: int) -> Fault:
    """How a group that serves is ended, so that the next one is formed."""
    draw = random.Random(f"{seed}/{generation}/ending")
    return Fault(STOP if draw.random() < 0.1 else KILL, phases.READY, draw.randrange(size), 0.0)


def strike(how: str) -> None:
    """Let it befall this process. Raises GroupBroken for `fail`."""
    match how:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            threading.Event().wait()
        case "seize":
            ctypes.PyDLL(None).sleep(SEIZED_S)  # PyDLL keeps the GIL, unlike CDLL
        case _:
            raise GroupBroken("the bench wants it to fail")
