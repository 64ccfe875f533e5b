"""The `nova` command as a user runs it: a real process, its JSON, and the processes that it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import psutil

from nova.clock import Deadline

LIMIT_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    output: dict[str, Any]
    errors: str


class Command:
    """`nova ARGUMENTS`, running. A context manager: at its end it is gone, whatever happened."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from nova.cli.main import main; main()", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def outcome(self, limit_s: float = LIMIT_S) -> Outcome:
        """Wait for its end and read its JSON."""
        output, errors = self.process.communicate(timeout=limit_s)
        return Outcome(self.process.returncode, json.loads(output) if output.strip() else {}, errors)

    def daemons(self) -> list[psutil.Process]:
        """Its `nova-node` processes, coordinator first."""
        return sorted(psutil.Process(self.process.pid).children(), key=lambda process: process.pid)

    def engines(self) -> list[psutil.Process]:
        """The engines, in the order of their daemons."""
        return [engine for daemon in self.daemons() for engine in daemon.children()]


def nova(*arguments: str) -> Outcome:
    """Run a command to its end."""
    with Command(*arguments) as command:
        return command.outcome()


def read_until(command: Command, text: str, deadline: Deadline) -> str:
    """What it has printed once `text` is in it. Raises AssertionError at the deadline."""
    assert command.process.stdout is not None
    seen = ""
    while text not in seen:
        assert not deadline.expired, f"{text!r} did not come; there was {seen!r}"
        char = command.process.stdout.read(1)
        assert char, f"the command ended without {text!r}; there was {seen!r}"
        seen += char
    return seen
