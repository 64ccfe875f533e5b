"""The ranks of a case as processes of this machine. Whatever a transport does to them, they end with the case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from nova.clock import Deadline, monotonic
from nova.errors import FormingFailed
from nova.testing.case import Case
from nova.testing.checks import Background
from nova.testing.child import MAX_LINE, Answer, Job, Word
from nova.testing.meeting import Meeting, Place
from nova.testing.report import CaseResult
from nova.testing.run import verdict
from nova.transport.api import Caps, Options, Seat
from nova.transport.offers import names

KILL_S = 2.0
"""s; a killed process is gone by then, or the machine cannot end it."""

TAIL = 2000
"""Bytes of what a process wrote on standard error that are shown when it ends without a result."""


class _Child:
    """One rank. Its standard input is its lifeline, its standard output carries the protocol of `child.py`."""

    def __init__(self, job: Job) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by end()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nova.testing.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self.rank = job.rank
        self.silence = ""
        """Why there is no result, as far as its last words say."""
        self._write(job)

    def serve(self, meeting: Meeting) -> CaseResult | None:
        """Pass its all-gathers on, until its result comes or it ends."""
        place = Place(meeting, self.rank)
        assert self._process.stdout is not None
        try:
            while line := self._process.stdout.readline(MAX_LINE):
                word = msgspec.json.decode(line, type=Word)
                if word.result is not None:
                    return word.result
                try:
                    answer = Answer(place.all_gather(word.blob, Deadline.after(word.within_s)))
                except FormingFailed as error:
                    answer = Answer(failed=error.cause)
                self._write(answer)
            return None
        except msgspec.DecodeError as error:
            self.silence = f"it broke the protocol of its standard output: {error}"
            return None
        finally:
            meeting.leave(self.rank)

    def end(self) -> bool:
        """Kill it with all that it started. False if it is still there KILL_S later."""
        with suppress(ProcessLookupError):  # gone already
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - TAIL))
        self.silence = self.silence or self._errors.read().decode(errors="replace").strip()
        self._errors.close()
        return self._process.returncode is not None

    def _write(self, message: Job | Answer) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and its standard output will say so
            self._process.stdin.write(msgspec.json.encode(message) + b"\n")
            self._process.stdin.flush()


def run_in_processes(
    case: Case, transport: str, options: Options, seats: Sequence[Seat], caps: Caps, limit_s: float
) -> CaseResult:
    """Every rank in a fresh process."""
    begun = monotonic()
    meeting = Meeting(len(seats))
    children: list[_Child] = []
    try:
        for seat in seats:
            children.append(_Child(_job(case, transport, options, seat, caps, limit_s)))
        calls = [Background(lambda child=child: child.serve(meeting)) for child in children]  # type: ignore[misc]
        end = Deadline.after(limit_s)
        results = {
            child.rank: call.result() if call.wait(end.remaining()) else None
            for child, call in zip(children, calls, strict=True)
        }
    finally:
        undead = [child.rank for child in children if not child.end()]
    result = verdict(case, transport, caps, results)
    if undead:
        reason = f"rank {undead[0]} was killed, and is still there {KILL_S:.0f} s later"
        result = msgspec.structs.replace(result, outcome="failed", reason=reason)
    last_words = [
        f"rank {child.rank} said: {child.silence}"
        for child in children
        if results[child.rank] is None and child.silence
    ]
    if result.outcome == "failed" and last_words:
        result = msgspec.structs.replace(result, reason="; ".join([result.reason, *last_words]))
    return msgspec.structs.replace(result, seconds=round(monotonic() - begun, 3))


def _job(case: Case, transport: str, options: Options, seat: Seat, caps: Caps, limit_s: float) -> Job:
    return Job(
        case.name, transport, dict(options), names(caps), seat.group, seat.generation, seat.rank, seat.size,
        seat.ticket, list(seat.hosts), limit_s,
    )  # fmt: skip
