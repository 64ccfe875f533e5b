"""How `nova transports` looks: a line for each plugin, and below what each can do and takes."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text as Line

from nova.cli.output import Plugin, Transports
from nova.cli.show_explain import time
from nova.wire.values import AttachmentOffer

STYLES = {"loaded": "green", "unavailable": "yellow", "refused": "red", "missing": "dim"}


def transports(found: Transports) -> RenderableType:
    """Summary, what is wrong in [transport], and every plugin that was imported."""
    parts: list[RenderableType] = [_summary(found.plugins)]
    parts += [Line(problem, style="yellow") for problem in found.problems]
    for plugin in found.plugins:
        if plugin.version:
            parts += [Line(f"\n{plugin.name}", style="bold"), Padding(_details(plugin), (0, 0, 0, 2), expand=False)]
    return Group(*parts)


def _summary(plugins: list[Plugin]) -> Table:
    table = Table(header_style="bold")
    for column in ("transport", "state", "version", "API"):
        table.add_column(column, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for each in plugins:
        table.add_row(
            each.name, Line(each.state, STYLES[each.state]), each.version, ".".join(map(str, each.api)) * any(each.api),
            Line(each.reason),
        )  # fmt: skip
    return table


def _details(plugin: Plugin) -> RenderableType:
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column()
    rows.add_row("class", Line(f"{', '.join(plugin.targets)} from {', '.join(plugin.distributions) or 'nowhere'}"))
    if plugin.caps:
        rows.add_row("promises", Line(", ".join(plugin.caps)))
    if plugin.collectives:
        rows.add_row("collectives", Line(", ".join(plugin.collectives)))
    if plugin.alike:
        rows.add_row("alike", Line(", ".join(f"{key} {value}" for key, value in sorted(plugin.alike.items()))))
    for index, each in enumerate(plugin.attachments):
        rows.add_row("" if index else "attached", Line(_attachment(each)))
    for index, option in enumerate(plugin.options):
        given = option.default or "required"
        line = Line.assemble(f"{option.name} = {given} ", (f"({option.type})  {option.help}", "dim"))
        rows.add_row("" if index else "options", line)
    return rows


def _attachment(each: AttachmentOffer) -> str:
    interface = f" ({each.interface})" if each.interface else ""
    rate = each.bandwidth_bytes_s / (1 << 20)
    return f"{each.address}{interface}, about {time(each.latency_s)} one way and {rate:.0f} MiB/s, in {each.domain}"
