"""`nova profile`: what this machine can do with a model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text as Line

from nova import paths
from nova.cli import edge, options
from nova.cli.output import Output
from nova.cli.show import err, out
from nova.clock import monotonic
from nova.config.load import load
from nova.node.profiling import BUDGET_S, profile
from nova.wire.plans import NodeProfile

PATIENCE_S = 2.0
"""After this long the user is told what is waited for."""


class Profile(Output, frozen=True, kw_only=True):
    """`nova profile --json`. `seconds` is what it took to measure it, or to find it on disk."""

    model: str
    profile: NodeProfile
    seconds: float


def command(
    model: Annotated[str, typer.Argument(help="Folder, name in $NOVA_HOME/models, cached hub id, or emulated:NAME.")],
    fresh: Annotated[bool, typer.Option(help="Measure anew, though it was measured before.")] = False,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Measure what this machine takes for a model's layers and head, and what memory it has. It takes some seconds."""
    edge.run(_profiled(model, fresh, config, set_ or [], json), json)


async def _profiled(model: str, fresh: bool, config: Path | None, settings: list[str], json: bool) -> Profile:
    node, begun = load(config, settings), monotonic()
    patience = asyncio.get_running_loop().call_later(PATIENCE_S, _say_what_takes_long, model)
    try:
        found = await profile(model, node, paths.home(node.home), fresh)
    finally:
        patience.cancel()
    told = Profile(model=model, profile=found, seconds=monotonic() - begun)
    if not json:
        out.print(shown(told))
    return told


def _say_what_takes_long(model: str) -> None:
    err.print(f"measuring {model} here takes some {BUDGET_S:.0f} s", style="dim", markup=False)


def shown(told: Profile) -> RenderableType:
    """A table over the positions of a chunk, and what does not depend on them."""
    found = told.profile
    layer, head = dict(found.layer_s), dict(found.head_s)
    table = Table(title=f"{told.model} on {found.name}", title_justify="left", header_style="bold")
    for column in ("positions", "layer ms", "of one's", "head ms"):
        table.add_column(column, justify="right", no_wrap=True)
    one = found.layer_s[0][1]
    for positions in sorted({*layer, *head}):
        seconds = layer.get(positions)
        ratio = f"{seconds / one:.2f}" if seconds is not None and one else ""
        table.add_row(str(positions), _ms(seconds), ratio, _ms(head.get(positions)))
    return Group(
        table,
        Line(f"fixed    {found.fixed_s * 1000:8.3f} ms for each chunk"),
        Line(f"memory   {found.memory_bytes / (1 << 30):8.2f} GiB may be used"),
        Line(f"from     {found.source}"),
        Line(f"took     {told.seconds:8.2f} s"),
    )


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.3f}"
