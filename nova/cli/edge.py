"""The edge of every command: errors become one line and an exit status, interrupts end in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any, NoReturn, TypeVar

import structlog
import typer

from nova.cli import interrupt
from nova.cli.output import Output, Problem, emit
from nova.cli.show import err
from nova.errors import NovaError


def _problem(reason: str) -> Output:
    return Problem(error=reason)


Result = TypeVar("Result", bound=Output | None)

Tell = Callable[[str], Output]
"""From why a command failed to what it prints as JSON then."""


def run(work: Coroutine[Any, Any, Result], json: bool, tell: Tell = _problem) -> Result:
    """Run a command to its end; its result, if any, is printed where JSON was asked for, and returned.

    A NovaError is told in one line, and as JSON where JSON was asked for.
    """
    _quiet_logs()
    try:
        result = _interruptible(work)
    except NovaError as error:
        fail(error, json, tell)
    except asyncio.CancelledError:
        err.print("interrupted")
        raise typer.Exit(interrupt.INTERRUPTED) from None
    if json and result is not None:
        emit(result)
    return result


def fail(error: NovaError, json: bool, tell: Tell = _problem) -> NoReturn:
    """Say why, and end with status 1."""
    err.print(f"[bold red]error[/bold red] {type(error).__name__}: ", end="")
    err.print(str(error), markup=False, soft_wrap=True)
    if json:
        emit(tell(str(error)))
    raise typer.Exit(1) from None


def _interruptible(work: Coroutine[Any, Any, Result]) -> Result:
    """SIGTERM and Ctrl-C cancel the work once, so that it cleans up; a second one has no further effect."""
    with closing(work), asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(work)
        with interrupt.calls(lambda: _cancel(loop, task)):
            return loop.run_until_complete(task)


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Through the loop, which may be asleep, and which must not be changed in the middle of a step."""
    loop.call_soon_threadsafe(task.cancel)


def _quiet_logs() -> None:
    """A command's own voice is its output; what goes wrong inside comes to the user as its error."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
