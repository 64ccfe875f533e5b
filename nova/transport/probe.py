"""What one transport can do here, asked in a process that may be thrown away: `python -m nova.transport.probe`.

A probe runs a plugin's code: it may import MLX, load a driver's library, hang, or crash. The first line of standard
input is a `Request`, the only line of standard output an `Answer`, both as JSON. Standard input stays open as the
lifeline. A process that holds the interpreter's lock sees no lifeline, so the kernel's alarm clock ends it too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any

import msgspec

from nova.errors import ConfigError, PluginRefused, TransportUnavailable
from nova.transport.api import Options
from nova.transport.offers import describe
from nova.transport.registry import load_transport
from nova.wire.values import Record, TransportOffer

MAX_ANSWER_BYTES = 256 << 10
MAX_REASON_CHARS = 500
ALARM_S = 2.0
"""So long after its limit the process ends without help, when nobody has ended it."""


class Request(Record, frozen=True):
    """`hosts` are this node's numeric addresses, best first; `limit_s` is what whoever asks will wait."""

    name: str
    options: dict[str, Any]
    hosts: list[str]
    limit_s: float


class Answer(Record, frozen=True):
    """One of the three: the offer, an option that the user has to mend, or what the plugin raised against its word."""

    offer: TransportOffer | None = None
    wrong_option: str = ""
    raised: str = ""


def ask(name: str, options: Options, hosts: Sequence[str]) -> Answer:
    """Load and probe in this process. Raises whatever the plugin should not have raised."""
    try:
        transport = load_transport(name, options)
    except PluginRefused as error:
        return Answer(TransportOffer(name, unavailable=error.why))
    except ConfigError as error:
        return Answer(wrong_option=str(error))
    try:
        info = transport.probe(hosts)
    except TransportUnavailable as error:
        return Answer(TransportOffer(name, unavailable=str(error) or "its probe gave no reason"))
    return Answer(describe(info))


def main() -> None:
    answers = os.dup(1)  # only ours: what the plugin prints goes to the log
    os.dup2(2, 1)
    request = msgspec.json.decode(_read_line(), type=Request)
    signal.setitimer(signal.ITIMER_REAL, request.limit_s + ALARM_S)
    threading.Thread(target=_end_with_the_lifeline, name="nova-lifeline", daemon=True).start()
    sys.excepthook = partial(_raised, answers)
    _say(answers, ask(request.name, request.options, request.hosts))


def _read_line() -> bytes:
    """Read without buffering ahead, since the rest of standard input is the lifeline."""
    line = bytearray()
    while (byte := os.read(0, 1)) and byte != b"\n":
        line += byte
    return bytes(line)


def _end_with_the_lifeline() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _raised(answers: int, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The interpreter's hook for what nobody caught; the trace goes to the log."""
    sys.__excepthook__(kind, error, trace)
    _say(answers, Answer(raised=f"{kind.__name__}: {error}"[:MAX_REASON_CHARS]))


def _say(answers: int, answer: Answer) -> None:
    """Write the answer, and end at once: a plugin's threads and exit handlers have no say in it."""
    data = memoryview(msgspec.json.encode(answer) + b"\n")
    while data:
        data = data[os.write(answers, data) :]
    os._exit(0)


if __name__ == "__main__":
    main()
