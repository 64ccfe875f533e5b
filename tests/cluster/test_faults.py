"""kill -9 of any one process while text is generated: told, named, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from nova import paths
from nova.clock import Deadline
from nova.local.cluster import MARK, marked
from tests.support.nova import Command, read_until

pytestmark = pytest.mark.alone

NOTICED_S = 5.0
START_S = 60.0
AGAIN_S = 0.15
"""Between two Ctrl-C of an impatient user."""

SPINNER_ENDS = "\x1b[?25h"
"""The cursor is shown again."""

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


@pytest.mark.parametrize("victim", ["engine of the first stage", "engine of the last stage"])
def test_in_json_a_text_that_was_cut_off_keeps_what_had_come_and_says_what_died(
    victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick, named = VICTIMS[victim]
    monkeypatch.setenv("FORCE_COLOR", "1")  # a spinner, whose end is the only sign of the first text
    monkeypatch.setenv("TERM", "xterm")
    with Command(
        "run", "--nodes", "2", "--model", "emulated:seed", "--prompt", "go", "--max-tokens", "500", "--json"
    ) as command:  # fmt: skip
        assert command.process.stderr is not None
        seen = ""
        while SPINNER_ENDS not in seen:
            seen += (char := command.process.stderr.read(1))
            assert char, seen
        pick(command).kill()
        outcome = command.outcome(2 * NOTICED_S)
    assert outcome.status == 1
    assert named in outcome.output["error"]
    assert "SIGKILL" in outcome.output["error"]
    assert outcome.output["text"]
    assert outcome.output["text"][:8] == "All work"[: len(outcome.output["text"])]
    assert len(outcome.output["tokens"]) == outcome.output["completion_tokens"] > 0
    assert outcome.output["finish"] == "error"
    assert outcome.output["prompt_tokens"] > 0


@pytest.mark.parametrize("stopped", [False, True], ids=["all well", "one daemon stopped"])
def test_a_second_ctrl_c_does_not_break_the_clean_up(stopped: bool, nova_home: Path) -> None:
    with generating() as command:
        others = [*command.daemons(), *command.engines()]
        if stopped:
            command.daemons()[1].suspend()
        command.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):  # it is still at its clean-up
            command.process.wait(AGAIN_S)
        command.process.send_signal(signal.SIGINT)
        _, errors = command.process.communicate(timeout=30.0)
        _, alive = psutil.wait_procs(others, timeout=2.0)  # an orphan's last breath
        for process in alive:
            process.kill()
    assert alive == []
    assert command.process.returncode == 130
    assert "Traceback" not in errors, errors
    assert list(paths.run(nova_home).iterdir()) == []
