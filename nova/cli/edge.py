"""The edge of every command: errors become one line and an exit status, interrupts end in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import structlog
import typer

from nova.cli.output import Output, Problem, emit
from nova.cli.show import err
from nova.errors import NovaError

INTERRUPTED = 130


def run(work: Coroutine[Any, Any, Output], json: bool) -> None:
    """Run a command to its end. A NovaError is told in one line, and as JSON where JSON was asked for."""
    _quiet_logs()
    try:
        result = asyncio.run(_interruptible(work))
    except NovaError as error:
        fail(error, json)
    except (asyncio.CancelledError, KeyboardInterrupt):
        err.print("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    if json:
        emit(result)


def fail(error: NovaError, json: bool) -> None:
    """Say why, and end with status 1."""
    err.print(f"[bold red]error[/bold red] {type(error).__name__}: ", end="")
    err.print(str(error), markup=False, soft_wrap=True)
    if json:
        emit(Problem(error=str(error)))
    raise typer.Exit(1) from None


async def _interruptible(work: Coroutine[Any, Any, Output]) -> Output:
    """SIGTERM and Ctrl-C cancel the work once, so that it cleans up; a second one has no further effect."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


def _quiet_logs() -> None:
    """A command's own voice is its output; what goes wrong inside comes to the user as its error."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
