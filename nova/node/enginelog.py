"""What an engine writes to standard error: passed on up to a bounded rate, its end kept. Pure.

A plugin may write without end. Whoever reads the pipe asks here how long to leave it alone: then it is the writer
that waits, stuck in its own write until a limit of its phase ends it, and not the daemon. Of what is read so many
lines go on to our own log, the rest is counted. The last lines are kept whatever the rate: they explain an exit.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator

import structlog

from nova.clock import Clock, monotonic

log = structlog.get_logger(__name__)

TAIL_LINES = 40
TAIL_CHARS = 500
"""Of one kept line: the tail of every engine crosses the control plane."""

MAX_LINE_BYTES = 8192
"""A longer line is cut into pieces: a progress bar without an end must not fill the memory."""

WINDOW_S = 0.25
WINDOW_BYTES = 128 << 10
WINDOW_LINES = 200
"""In one window about so many bytes are read, and so many lines passed on: more than a traceback of any depth."""


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class LineCutter:
    """Bytes as they come to lines of text, however long they are and whatever their bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) >= MAX_LINE_BYTES:
            whole, self._rest = [*whole, self._rest], b""
        for line in whole:
            yield from self._pieces(line)

    def end(self) -> Iterator[str]:
        """The last line needs no end."""
        rest, self._rest = self._rest, b""
        if rest:
            yield from self._pieces(rest)

    def _pieces(self, line: bytes) -> Iterator[str]:
        for start in range(0, max(1, len(line)), MAX_LINE_BYTES):
            yield line[start : start + MAX_LINE_BYTES].decode(errors="replace").rstrip()


class EngineLog:
    """One engine's standard error; `pass_on` takes the lines that go to our own."""

    def __init__(self, engine: str, pass_on: Callable[[str], None] = to_stderr, clock: Clock = monotonic) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.dropped = 0
        """Lines that were not passed on."""
        self._engine = engine
        self._pass_on = pass_on
        self._clock = clock
        self._cutter = LineCutter()
        self._window = clock()
        self._bytes = self._lines = self._reported = 0

    def feed(self, data: bytes) -> float:
        """What was read. Returns the seconds for which no more should be read."""
        now = self._clock()
        if now >= self._window + WINDOW_S:
            self._window, self._bytes, self._lines = now, 0, 0
            self._report()
        self._bytes += len(data)
        for line in self._cutter.feed(data):
            self._take(line)
        return self._window + WINDOW_S - now if self._bytes >= WINDOW_BYTES else 0.0

    def end(self) -> None:
        """Nothing more will come."""
        for line in self._cutter.end():
            self._take(line)
        self._report()

    def _take(self, line: str) -> None:
        self.tail.append(line[:TAIL_CHARS])
        self._lines += 1
        if self._lines > WINDOW_LINES:
            self.dropped += 1
        else:
            self._pass_on(line)

    def _report(self) -> None:
        """When the count has doubled, so that a flood does not flood the log."""
        if self.dropped.bit_length() > self._reported:
            self._reported = self.dropped.bit_length()
            log.warning("an engine writes too much: lines of it are not shown", engine=self._engine, count=self.dropped)
