"""A model's figures, worked out in a process that is thrown away: they come from mlx_lm, which no daemon imports.

`python -m nova.coordinator.figures` is asked a `Request` and answers an `Answer` (`nova.throwaway`).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from nova.errors import ModelError, NovaError
from nova.model.figures import figures_of
from nova.plan.inputs import ModelFigures
from nova.plan.profiles import is_emulated
from nova.throwaway import Child
from nova.wire.values import Record

LIMIT_S = 60.0
"""Of which mlx_lm's import takes some seconds where the disk is cold."""
MAX_ANSWER_BYTES = 1 << 20
"""A layer has some 150 bytes in it."""


class Request(Record, frozen=True):
    name: str
    home: str


class Answer(Record, frozen=True):
    """One of the two."""

    figures: ModelFigures | None = None
    reason: str = ""


async def read_figures(name: str, home: Path) -> ModelFigures:
    """Of the model that a configuration names. Raises ModelError."""
    if is_emulated(name):
        return figures_of(name, home)
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nova.coordinator.figures", start_new_session=True, limit=MAX_ANSWER_BYTES,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise ModelError(f"{name}: the process that reads its figures could not be started: {error}") from error
    try:
        async with asyncio.timeout(LIMIT_S):
            line = await _ask(child, Request(name, str(home)))
        answer = msgspec.json.decode(line, type=Answer)
    except TimeoutError:
        raise ModelError(f"{name}: reading its figures took more than {LIMIT_S:g} s") from None
    except (ValueError, OSError, RecursionError) as error:  # too long, not JSON, or nobody there
        raise ModelError(f"{name}: the process that reads its figures failed, see the log: {error}") from error
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
    if answer.figures is None:
        raise ModelError(answer.reason)
    return answer.figures


async def _ask(child: asyncio.subprocess.Process, request: Request) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(msgspec.json.encode(request) + b"\n")
    await child.stdin.drain()
    return await child.stdout.readline()


def main() -> None:
    child = Child()
    request = msgspec.json.decode(child.asked(), type=Request)
    child.guard(LIMIT_S, lambda why: Answer(reason=f"{request.name}: {why}"))
    try:
        answer = Answer(figures_of(request.name, Path(request.home)))
    except NovaError as error:
        answer = Answer(reason=str(error))
    child.answer(answer)


if __name__ == "__main__":
    main()
