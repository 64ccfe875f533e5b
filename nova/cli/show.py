"""How results look on a terminal."""

from __future__ import annotations

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from nova.cli.output import Status, Text

BAR_WIDTH = 30

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def account(text: Text) -> RenderableType:
    """The table of where each token's time went, and the figures under it."""
    table = Table(title="Where a token's time goes", title_justify="left", header_style="bold")
    table.add_column("part", no_wrap=True)
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    table.add_column("", width=BAR_WIDTH)
    for row in text.breakdown:
        table.add_row(
            row.name, f"{row.ms:.2f}", f"{row.share:.1%}", Bar(1.0, 0.0, max(0.0, row.share), width=BAR_WIDTH)
        )
    total = sum(row.ms for row in text.breakdown)
    table.add_row("token", f"{total:.2f}", "100.0%" if total else "", style="bold")
    layers = ", ".join(
        f"{stage.node} layers {stage.first_layer}-{stage.first_layer + stage.layers - 1}" for stage in text.stages
    )
    lines = [
        f"decode   {text.decode_tok_s:8.2f} tok/s   ({text.completion_tokens} tokens, ended by {text.finish})",
        f"prefill  {text.prefill_tok_s:8.2f} tok/s   ({text.prompt_tokens} tokens)",
        f"first    {text.ttft_s:8.2f} s       to the first token",
        f"over     {text.transport}: {layers}",
    ]
    return Group(table, *lines) if text.breakdown else Group(*lines)


def cluster(status: Status) -> RenderableType:
    """Nodes and engines of a running deployment."""
    head = f"{escape(status.model) or 'no model'}: [bold]{status.state}[/bold]"
    if status.transport:
        head += f" over {status.transport}, generation {status.generation}"
    nodes = Table(header_style="bold")
    for column in ("node", "state", "heartbeat", "round trip", "memory", "machine", "transports"):
        nodes.add_column(column)
    for node in status.nodes:
        up = node.facts is not None
        offers = ", ".join(
            offer.name if offer.unavailable is None else escape(f"{offer.name} ({offer.unavailable})")
            for offer in node.transports
        )
        nodes.add_row(
            node.name, node.state,
            f"{node.heartbeat_age_s:.1f} s ago" if up else "", f"{node.rtt_ms:.2f} ms" if up else "",
            _size(node.memory_bytes), escape(f"{node.facts.cpu}, {node.facts.system}") if node.facts else "", offers,
        )  # fmt: skip
    engines = Table(header_style="bold")
    for column in ("stage", "node", "layers", "phase", "pid", "weights", "memory", ""):
        engines.add_column(column)
    for engine in status.engines:
        last = engine.first_layer + engine.layers - 1
        engines.add_row(
            str(engine.engine.rank), engine.node, f"{engine.first_layer}-{last}", engine.phase, str(engine.pid or ""),
            _size(engine.weight_bytes), _size(engine.memory_bytes), escape(engine.detail),
        )  # fmt: skip
    why = [f"[yellow]{escape(reason)}[/yellow]" for reason in status.reasons] if status.state != "serving" else []
    passed = [escape(f"not {name}: {reason}") for name, reason in sorted(status.rejected.items())]
    return Group(head, nodes, engines, *passed, *why)


def _size(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB" if count else ""
