"""What an engine says of an error that a plugin raised: bounded and printable, whatever the error is.

A plugin may raise anything: with a message of megabytes, with one that cannot be encoded, with a `__str__` that
raises itself. The standard library's `traceback` gives the text of all of these.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from nova.errors import TransportError

MAX_CHARS = 2000
"""Of one message: a page of text. It crosses the control plane and is kept by the coordinator."""

MAX_LINES = 30
MAX_LINE_CHARS = 300
"""Of one traceback in the log: the innermost frames are the last lines."""


class PluginCall:
    """`with` this round a call into a transport plugin: what it raises that is none of its errors becomes one of ours.

    `fault` makes that from the description; the errors in `passes` go on as they are. May be entered again and again.
    """

    def __init__(
        self, fault: Callable[[str], TransportError], passes: tuple[type[Exception], ...] = (TransportError,)
    ) -> None:
        self._fault = fault
        self._passes = passes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, self._passes):
            raise self._fault(described(error)) from error


def message(error: BaseException) -> str:
    """Its message alone, its type's name where it has none; on one line of at most MAX_CHARS."""
    return _text(error).partition(": ")[2] or type(error).__name__


def described(error: BaseException) -> str:
    """Its type and message, as in `ValueError: no such device`; on one line of at most MAX_CHARS."""
    return _text(error)


def trace(error: BaseException) -> str:
    """The end of its traceback."""
    lines = [line for entry in traceback.format_exception(error) for line in entry.splitlines()]
    return "\n".join(_printable(line[:MAX_LINE_CHARS]) for line in lines[-MAX_LINES:])


def _text(error: BaseException) -> str:
    text = "".join(traceback.format_exception_only(error)).removeprefix(f"{type(error).__module__}.")
    return " ".join(_printable(text[:MAX_CHARS]).split())


def _printable(text: str) -> str:
    """Without lone surrogates, which no message can carry."""
    return text.encode(errors="replace").decode()
