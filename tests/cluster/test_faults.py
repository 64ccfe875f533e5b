"""kill -9 of any one process while text is generated: told, named, and nothing left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from nova.clock import Deadline
from nova.local.cluster import MARK, marked
from tests.support.nova import Command, read_until

NOTICED_S = 5.0
START_S = 60.0

VICTIMS: dict[str, tuple[Callable[[Command], psutil.Process], str]] = {
    "coordinator daemon": (lambda command: command.daemons()[0], "node-1"),
    "worker daemon": (lambda command: command.daemons()[1], "node-2"),
    "engine of the first stage": (lambda command: command.engines()[0], "engine of rank 0 on node node-1"),
    "engine of the last stage": (lambda command: command.engines()[1], "engine of rank 1 on node node-2"),
}


def generating(*more: str) -> Command:
    """A command that has written its first text and would go on for a minute."""
    command = Command(
        "run", "--nodes", "2", "--model", "emulated:seed", "--prompt", "go", "--max-tokens", "500", *more
    )  # fmt: skip
    read_until(command, "All work", Deadline.after(START_S))
    return command


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("transport", ["tcp", "zmq"])
def test_a_killed_process_is_noticed_and_named_and_nothing_is_left(victim: str, transport: str) -> None:
    pick, named = VICTIMS[victim]
    with generating("--transport", transport) as command:
        mark = command.daemons()[0].environ()[MARK]
        others = [*command.daemons(), *command.engines()]
        process = pick(command)
        started = time.monotonic()
        process.kill()
        _, errors = command.process.communicate(timeout=2 * NOTICED_S)
        took = time.monotonic() - started
    assert command.process.returncode == 1
    assert took < NOTICED_S, f"the client had its error after {took:.1f} s only"
    assert named in errors, errors
    assert "SIGKILL" in errors, errors
    _, alive = psutil.wait_procs(others, timeout=NOTICED_S - took)
    assert alive == [], [process.cmdline() for process in alive]
    assert marked(mark) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_command_leaves_nothing_behind(number: signal.Signals) -> None:
    with generating() as command:
        others = [*command.daemons(), *command.engines()]
        os.kill(command.process.pid, number)
        command.process.wait(timeout=15.0)
        _, alive = psutil.wait_procs(others, timeout=15.0)
    assert alive == []
    assert command.process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
