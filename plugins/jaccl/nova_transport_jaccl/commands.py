"""One command of the operating system, under a limit of time and of output. A hang is an answer too."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from nova.clock import Deadline

MAX_OUTPUT_BYTES = 1 << 20
GRACE_S = 0.5
"""A command that does not end gets SIGTERM, after this SIGKILL, and after this again it is given up."""


@dataclass(frozen=True)
class Ran:
    """What a command printed, and `trouble`, which says what was wrong and is "" when nothing was."""

    output: str = ""
    trouble: str = ""
    kind: Literal["ended", "missing", "hung", "failed"] = "ended"


def run(argv: Sequence[str], limit_s: float) -> Ran:
    """Run `argv` without a shell and without input; returns within `limit_s` and two times GRACE_S."""
    deadline = Deadline.after(limit_s)
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"}, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        return Ran(trouble=f"{argv[0]} is missing", kind="missing")
    except OSError as error:
        return Ran(trouble=f"{argv[0]} cannot be started: {error.strerror}", kind="failed")
    assert process.stdout is not None
    with process.stdout as pipe:
        data, ended = _read(pipe.fileno(), deadline)
    if ended:
        try:
            process.wait(deadline.remaining())
        except subprocess.TimeoutExpired:
            ended = False
    gone = ended or _stop(process)
    if len(data) >= MAX_OUTPUT_BYTES:
        return Ran(trouble=f"{argv[0]} printed more than {MAX_OUTPUT_BYTES} bytes", kind="failed")
    output = data.decode(errors="replace")
    if not ended:
        end = "" if gone else ", nor could it be killed"
        return Ran(output, f"{argv[0]} did not answer within {limit_s:g} s{end}", "hung")
    if process.returncode:
        return Ran(output, f"{argv[0]} ended with status {process.returncode}", "failed")
    return Ran(output)


def _read(pipe: int, deadline: Deadline) -> tuple[bytes, bool]:
    """What comes before the end, the deadline or the limit; true when it was the end."""
    data = b""
    while len(data) < MAX_OUTPUT_BYTES:
        if not select.select([pipe], [], [], deadline.remaining())[0]:
            return data, False
        piece = os.read(pipe, 1 << 16)
        if not piece:
            return data, True
        data += piece
    return data, False


def _stop(process: subprocess.Popen[bytes]) -> bool:
    """End the command and what it has started; false when it cannot be ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM where only zombies are left
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    return process.returncode is not None
