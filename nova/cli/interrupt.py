"""Ctrl-C and SIGTERM: the first one ends a command in order, later ones have no effect; but for `nova chat`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def calls(end: Callable[[], None], restore: bool = True) -> Iterator[None]:
    """The first SIGINT or SIGTERM inside calls `end`, between two steps of the main thread; no later one does a thing.

    Afterwards the earlier handlers are back if there was no signal; without `restore` signals are ignored from then on,
    since nothing is left to end but the interpreter.
    """
    # Handlers of our own, not the event loop's: those come late and go early, and a signal outside them is a traceback.
    earlier = {number: signal.getsignal(number) for number in _NUMBERS}
    came = False

    def first(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        _set_all(_ignore)
        end()

    _set_all(first)
    try:
        yield
    finally:
        if not restore:
            _set_all(signal.SIG_IGN)  # the one handler that also holds while the interpreter ends
        elif not came:
            for number, handler in earlier.items():
                signal.signal(number, handler)


@contextmanager
def raised() -> Iterator[None]:
    """Every Ctrl-C inside raises KeyboardInterrupt, for a command that goes on after one."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


def leave() -> None:
    """End here and now, with the status of an interrupt and without a word."""
    raise SystemExit(INTERRUPTED)


def _set_all(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in _NUMBERS:
        signal.signal(number, handler)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which processes that we start would inherit."""
