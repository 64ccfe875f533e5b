"""How a plan looks: advice, where a token's time goes, what is predicted, and what else there is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text as Line

from nova.cli.show_explain import time
from nova.wire.plans import Alternative, PlannedStage, PlanReport

BAR_WIDTH = 12
COLUMNS = (
    ("stage", 0), ("layers", 0), ("memory GiB", 0), ("free", 72), ("ms", 0), ("share", 0), ("", 96), ("roofline", 72),
)  # fmt: skip
"""Of the stages' table, each with the columns that a terminal has at least where it is shown."""
MANY = 12
"""Alternatives, nodes without a stage or notes beyond these are counted; --json has all of them."""
SEARCHED = ("latency", "throughput", "speculative")
"""Objectives that something is the best for; the others are rules."""


def planned(report: PlanReport, width: int) -> RenderableType:
    """Everything but the figures that only programs need, for a terminal of so many columns."""
    parts: list[RenderableType] = [Line(report.advice, style="bold green")] if report.advice else []
    parts += [Line(headline(report)), _stages(report, width), _predicted(report)]
    if report.alternatives:
        parts.append(_alternatives(report))
    without = [f"{name} has no stage: {why}" for name, why in report.excluded.items()]
    parts += [Line(line, style="dim") for line in _first(without, "nodes have no stage")]
    parts += [Line(line) for line in _first(report.notes, "notes")]
    return Group(*parts)


def headline(report: PlanReport) -> str:
    """What was placed, by which strategy, and how near it is to the best."""
    layers = sum(stage.layers for stage in report.stages)
    over = ", ".join(stage.node for stage in report.stages[:MANY])
    more = f" and {len(report.stages) - MANY} more" if len(report.stages) > MANY else ""
    named = report.strategy if report.strategy == report.objective else f"{report.strategy}, for {report.objective}"
    best = (
        f"; {_optimal(report.gap)}" if report.objective in SEARCHED and report.strategy in (*SEARCHED, "auto") else ""
    )
    return f"{report.model}: {layers} layers on {over}{more} ({named}{best})"


def split(stages: Sequence[PlannedStage]) -> str:
    """As --split takes it."""
    return ", ".join(f"{stage.node}={stage.layers}" for stage in stages)


def _optimal(gap: float) -> str:
    return "none is better" if gap <= 0 else f"at most {gap:.1%} from the best"


def _stages(report: PlanReport, width: int) -> Table:
    """Stages and the hops between them; shares are those of one token's time. The slowest stage is marked."""
    shown = [at for at, (_, least) in enumerate(COLUMNS) if width >= least]
    table = Table(header_style="bold")
    for at in shown:
        name = COLUMNS[at][0]
        text = name in ("stage", "")
        table.add_column(name, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    token_s = report.prediction.token_s
    slowest = max(report.stages, key=lambda stage: stage.step_s, default=None)
    for index, stage in enumerate(report.stages):
        cells: list[RenderableType] = [
            Line(f"{index} {stage.node}"), f"{stage.first_layer}-{stage.first_layer + stage.layers - 1}",
            f"{_gib(stage.used_bytes)} of {_gib(stage.memory_bytes)}", f"{_free(stage):.0%}",
            *_time(stage.step_s, token_s), f"{stage.roofline:.0%}" if stage.roofline >= 0.005 else "",
        ]  # fmt: skip
        marked = stage is slowest and len(report.stages) > 1
        table.add_row(*(cells[at] for at in shown), style="yellow" if marked else "")
        if stage.hop_s:
            way = "  back" if index + 1 == len(report.stages) else "  hop"
            cells = [way, "", "", "", *_time(stage.hop_s, token_s), ""]
            table.add_row(*(cells[at] for at in shown), style="dim")
    return table


def _time(seconds: float, token_s: float) -> tuple[str, str, Bar]:
    """Milliseconds, and the share of the token's time, also as a bar."""
    share = seconds / token_s if token_s else 0.0
    return f"{seconds * 1e3:.2f}", f"{share:.1%}", Bar(1.0, 0.0, share, width=BAR_WIDTH)


def _predicted(report: PlanReport) -> RenderableType:
    found = report.prediction
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True, justify="right")
    rows.add_column()
    rows.add_row("one stream", f"{found.tok_s:.2f} tok/s", Line(f"{time(found.token_s)} a token"))
    if found.width:
        positions = f"chunks of {found.width} position{'s' * (found.width > 1)}"
        right = f", {report.acceptance:.0%} of the guesses right" if report.acceptance else ""
        rows.add_row("speculation", f"{found.speculative_tok_s:.2f} tok/s", Line(positions + right))
    if report.batch != 1:
        groups = f"in {found.groups} group{'s' * (found.groups > 1)}"
        rows.add_row(_streams(report), f"{found.aggregate_tok_s:.2f} tok/s", Line(groups))
    prompt = f"{report.prompt} tokens" if report.prompt else "the prompt"
    rows.add_row("first token", time(found.ttft_s), Line(f"after {prompt}, in pieces of {found.prefill_chunk}"))
    lines: list[RenderableType] = [rows]
    if report.bottleneck:
        lines.append(Line(f"bottleneck: {report.bottleneck}"))
    return Group(*lines)


def _alternatives(report: PlanReport) -> RenderableType:
    """With one stream's rate, and those of speculation and of all streams where they are planned for."""
    table = Table(header_style="bold")
    table.add_column("instead")
    table.add_column("split")
    guessing, several = report.objective == "speculative", report.batch != 1
    rates = ["tok/s", *["speculation"] * guessing, *[_streams(report)] * several]
    for column in (*rates, "loss"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in report.alternatives[:MANY]:
        found = each.prediction
        cells = [found.tok_s, *[found.speculative_tok_s] * guessing, *[found.aggregate_tok_s] * several]
        told = (f"{tok_s:.2f}" for tok_s in cells)
        table.add_row(Line(each.what), Line(split(each.stages)), *told, _loss(each))
    rest = _first([each.what for each in report.alternatives], "alternatives")[MANY:]
    return Group(table, *(Line(line, style="dim") for line in rest))


def _streams(report: PlanReport) -> str:
    return f"{report.batch} streams" if report.batch else "all streams"


def _loss(each: Alternative) -> str:
    return f"{each.loss:.0%}" if each.loss >= 0 else f"gains {-each.loss:.0%}"


def _first(lines: Sequence[str], what: str) -> list[str]:
    """Not a screen full of lines: the first ones, and how many there are beyond them."""
    more = len(lines) - MANY
    return [*lines[:MANY], f"and {more} more {what}: --json has all"] if more > 0 else list(lines)


def _free(stage: PlannedStage) -> float:
    return 1 - stage.used_bytes / stage.memory_bytes if stage.memory_bytes else 0.0


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f}"
