"""A signal at any moment of a command, even before there is an event loop, ends it in order and once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
import typer

from nova.cli import edge, interrupt
from nova.cli.output import Output, Problem

AT_IMPORT = """
import os, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Interrupts())
from nova.cli.main import main
main()
"""

BEFORE_THE_LOOP = """
import asyncio, os
class Runner(asyncio.Runner):
    def get_loop(self):
        os.kill(os.getpid(), {number})
        return super().get_loop()
asyncio.Runner = Runner
from nova.cli.main import main
main()
"""


def ends(code: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=30.0)
    assert (done.returncode, done.stdout, done.stderr) == (interrupt.INTERRUPTED, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["nova.cli.app", "typer", "asyncio", "nova.cli.remote", "rich.console"])
def test_a_signal_during_imports_ends_quietly(module: str, number: signal.Signals) -> None:
    ends(AT_IMPORT.format(module=module, number=int(number)), "--version")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_just_before_the_event_loop_ends_quietly(number: signal.Signals) -> None:
    ends(BEFORE_THE_LOOP.format(number=int(number)), "status")


class Work:
    """Is interrupted by itself, twice, and cleans up in several steps."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number
        self.cleaned = False

    async def __call__(self) -> Output:
        os.kill(os.getpid(), self.number)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), self.number)
            for _ in range(5):
                await asyncio.sleep(0)
            self.cleaned = True
        return Problem(error="unreachable")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_cancels_and_the_second_does_not_disturb_the_clean_up(number: signal.Signals) -> None:
    work = Work(number)
    earlier = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(typer.Exit) as ended:
            edge.run(work(), json=False)
        signal.raise_signal(number)  # even now it has no effect
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)
    assert work.cleaned
    assert ended.value.exit_code == interrupt.INTERRUPTED


def test_without_a_signal_the_earlier_handlers_are_back() -> None:
    async def work() -> Output:
        return Problem(error="")

    earlier = signal.getsignal(signal.SIGTERM)
    edge.run(work(), json=False)
    assert signal.getsignal(signal.SIGTERM) is earlier
