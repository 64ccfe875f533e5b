"""How a simulation looks: its pace first, then who waits, who works, and what a fault cost."""

from __future__ import annotations

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text as Line

from nova.cli.show_explain import time
from nova.sim.result import SimReport, Spread

BUSIEST = 10
"""Stages that are listed; --json has all."""
BAR_WIDTH = 24


def simulated(report: SimReport) -> RenderableType:
    parts: list[RenderableType] = [
        Line(f"{report.tok_s:.1f} tok/s in all", style="bold"),
        Line(
            f"{report.requests} requests, {report.tokens} tokens in {report.seconds:.2f} s on {_count(report.stages)}"
            + (f"; {report.left} were left by their clients" if report.left else "")
        ),
        Line(_spread("time to first token", report.ttft_s)),
        Line(_spread("between tokens", report.gap_s)),
        Line(f"{'waiting for a first token':26}{report.queue.mean:.1f} in the mean, {report.queue.most} at most"),
        *(
            Line(
                f"{lost.node} died at {lost.at_s:g} s: {lost.chunks} chunks were lost under way, "
                f"{lost.requests} requests went on later"
            )
            for lost in report.faults
        ),
    ]
    if report.faults:
        parts.append(Line(f"for {report.down_s:g} s no group served"))
    parts.append(_stages(report))
    if report.stages > BUSIEST:
        parts.append(Line(f"and {report.stages - BUSIEST} stages that are less busy", style="dim"))
    return Group(*parts)


def _stages(report: SimReport) -> Table:
    table = Table(header_style="bold")
    for column in ("stage", "node", "busy", ""):
        table.add_column(column, justify="right" if column in ("stage", "busy") else "left", no_wrap=column != "node")
    busiest = sorted(report.busy, key=lambda each: (-each.busy, each.stage))[:BUSIEST]
    for each in sorted(busiest, key=lambda each: each.stage):
        table.add_row(str(each.stage), Line(each.node), f"{each.busy:.1%}", Bar(1, 0, each.busy, width=BAR_WIDTH))
    return table


def _spread(name: str, spread: Spread) -> str:
    told = f"p50 {time(spread.p50)}, p99 {time(spread.p99)}" if spread.samples else "none came"
    return f"{name:26}{told}"


def _count(stages: int) -> str:
    return f"{stages} stage{'s' if stages > 1 else ''}"
