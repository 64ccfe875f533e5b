"""The inside of a process that may be thrown away: it runs code that can hang, crash or print what it likes.

The first line of standard input is what is asked, the only line of standard output the answer, both as JSON. Standard
input stays open as the lifeline. A process that holds the interpreter's lock sees no lifeline, so the kernel's alarm
clock ends it too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

import msgspec

MAX_REASON_CHARS = 500
ALARM_S = 2.0
"""So long after its limit the process ends without help, when nobody has ended it."""


class Child:
    """This process, from the moment that it is made. What is printed from then on goes to standard error."""

    def __init__(self) -> None:
        self._answers = os.dup(1)
        os.dup2(2, 1)

    def asked(self) -> bytes:
        """The line that was asked; nothing behind it is read, since that is the lifeline."""
        line = bytearray()
        while (byte := os.read(0, 1)) and byte != b"\n":
            line += byte
        return bytes(line)

    def guard(self, limit_s: float, raised: Callable[[str], object]) -> None:
        """End with the lifeline, or after the limit. What nobody catches becomes the answer `raised(reason)`."""

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            sys.__excepthook__(kind, error, trace)  # the trace goes to the log
            self.answer(raised(f"{kind.__name__}: {error}"[:MAX_REASON_CHARS]))

        sys.excepthook = hook
        signal.setitimer(signal.ITIMER_REAL, limit_s + ALARM_S)
        threading.Thread(target=_end_with_the_lifeline, name="nova-lifeline", daemon=True).start()

    def answer(self, answer: object) -> NoReturn:
        """Write it, and end at once: no library's threads and exit handlers have a say in it."""
        data = memoryview(msgspec.json.encode(answer) + b"\n")
        while data:
            data = data[os.write(self._answers, data) :]
        os._exit(0)


def _end_with_the_lifeline() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
