"""`nova trace`: what every stage did while a request was served, as a file for Perfetto."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from nova.cli import edge, options
from nova.cli.output import Busy, Trace
from nova.cli.perfetto import busy, timeline
from nova.cli.remote import connect
from nova.cli.show import out
from nova.errors import ConfigError, ControlError
from nova.wire.requests import TraceReply

VIEWER = "https://ui.perfetto.dev"


def command(
    request: Annotated[str, typer.Argument(help="A request, by the id of its answer.")] = "",
    last: Annotated[bool, typer.Option("--last", help="The request that ended last; so too without an id.")] = False,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here instead of nova-trace-REQUEST.json.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Write a timeline of every chunk on every stage while a request was served, for Perfetto or Chrome's tracing."""
    if request and last:
        raise typer.BadParameter("a request's id and --last exclude each other")
    edge.run(_trace(request, file, force, config, set_ or [], json), json)


async def _trace(
    target: str, file: Path | None, force: bool, config: Path | None, settings: list[str], json: bool
) -> Trace:
    async with connect(config, settings) as client:
        reply = await client.trace(request_of(target))
    if not reply.chunks:
        raise ControlError(f"nothing is kept of request {reply.target or target}: trace it soon after it has ended")
    path = file or Path(file_name(reply.target))
    write(path, msgspec.json.encode(timeline(reply)), force)
    found = summary(reply, path)
    if not json:
        _print(found)
    return found


def request_of(name: str) -> str:
    """The request behind the id of an answer of the HTTP API, which has a prefix, as chatcmpl-0123456789abcdef."""
    return re.sub(r"^(?:(?:chatcmpl-|cmpl-|msg_)|resp_(?=([0-9a-f]{16})).*)", r"\1", name)


def file_name(request: str) -> str:
    """The default name; a request's id is a client's own, so it may hold anything."""
    return f"nova-trace-{re.sub(r'[^A-Za-z0-9._-]', '_', request)[:100]}.json"


def write(path: Path, content: bytes, force: bool) -> None:
    """Raises ConfigError, also for a file that is there already, unless `force`."""
    try:
        with path.open("wb" if force else "xb") as opened:
            opened.write(content)
    except FileExistsError:
        raise ConfigError(f"{path} exists: --force replaces it, -o FILE writes elsewhere") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def summary(reply: TraceReply, path: Path) -> Trace:
    seconds, shares = busy(reply)
    stages = [Busy(stage=stage, node=reply.nodes[stage], busy=share) for stage, share in enumerate(shares)]
    return Trace(
        request=reply.target, file=str(path), seconds=seconds, chunks=len(reply.chunks), stages=stages,
        bottleneck=max(range(len(shares)), key=shares.__getitem__, default=-1), omitted=reply.omitted,
    )  # fmt: skip


def _print(trace: Trace) -> None:
    out.print(f"{trace.file}: {trace.chunks} chunks, to be opened at {VIEWER}", markup=False, soft_wrap=True)
    if trace.omitted:
        out.print(f"{trace.omitted} chunks before them are left out: there were too many", markup=False)
    for each in trace.stages:
        note = "  the bottleneck" if each.stage == trace.bottleneck and len(trace.stages) > 1 else ""
        out.print(f"stage {each.stage} ({each.node}) computed {each.busy:6.1%} of {trace.seconds:.2f} s{note}")
