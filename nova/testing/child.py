"""One rank of one case as a process: `python -m nova.testing.child`.

Its standard input carries a `Job`, then one `Answer` for each all-gather; its standard output one `Word` for each
all-gather and a last one with the result. One JSON object to a line. What the transport itself prints goes to
standard error.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import sys
import threading
from typing import Any, BinaryIO

import msgspec

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.testing.report import CaseResult
from nova.transport.api import Caps, Seat

MAX_LINE = 8 << 20
"""Bytes; longer lines break the protocol."""

GRACE_S = 5.0
"""s; past the limit, until the system itself ends a process whose runner is gone and whose threads are all stuck."""


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which rank of which case."""

    case: str
    transport: str
    options: dict[str, Any]
    caps: list[str]
    group: str
    generation: int
    rank: int
    size: int
    ticket: bytes
    hosts: list[str]
    limit_s: float


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rank says: a blob to gather within so many seconds, or its result."""

    blob: bytes = b""
    within_s: float = 0.0
    result: CaseResult | None = None


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every rank's blob, or why there are none."""

    blobs: list[bytes] = []
    failed: str = ""


class Line:
    """The rank's end of the protocol, as a `Rendezvous`. Used by one thread."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, rank: int) -> None:
        self._sink = sink
        self._rank = rank
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(source,), name="nova-testing lifeline", daemon=True).start()

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        self.say(Word(blob, deadline.remaining()))
        answer = self._answers.get()  # the runner keeps the deadline, and kills who waits for ever
        if answer.failed:
            raise FormingFailed("meet", "conformance", self._rank, answer.failed)
        return answer.blobs

    def say(self, word: Word) -> None:
        self._sink.write(msgspec.json.encode(word) + b"\n")
        self._sink.flush()

    def _listen(self, source: BinaryIO) -> None:
        while line := source.readline(MAX_LINE):
            self._answers.put(msgspec.json.decode(line, type=Answer))
        os._exit(1)  # the runner is gone


def main() -> None:
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a plugin prints must not stand in the protocol's way
    job = msgspec.json.decode(source.readline(MAX_LINE), type=Job)
    signal.alarm(math.ceil(job.limit_s + GRACE_S))  # not even a call that holds the GIL outlives this
    from nova.testing.run import run_case

    line = Line(source, sink, job.rank)
    seat = Seat(job.group, job.generation, job.rank, job.size, job.ticket, tuple(job.hosts))
    caps = Caps(0)
    for name in job.caps:
        caps |= Caps[name]
    line.say(Word(result=run_case(job.case, job.transport, job.options, seat, line, caps)))
    sys.stderr.flush()
    os._exit(0)  # threads of the transport, or of MLX, must not hold the process


if __name__ == "__main__":
    main()
