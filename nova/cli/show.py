"""How results look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text as Line

from nova.cli.output import Status, Text

BAR_WIDTH = 30
KV_PERCENT = "kv_percent:"
"""What a counter is called, before its node's name."""

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
    serving = status.state == "serving"
    head = Line.assemble(f"{status.model or 'no model'}: ", (status.state, "bold"))
    if status.generation:
        over = "on one node" if status.transport == "none" else f"over {status.transport or 'no transport'}"
        how = f"{over}, generation {status.generation}"
        head.append(f" {how}" if serving else f" (last {how})")
    nodes = Table(header_style="bold")
    for column in ("node", "state", "heartbeat", "round trip", "memory", "transports"):
        nodes.add_column(column, no_wrap=column != "transports")
    for node in status.nodes:
        up = node.facts is not None
        offers = ", ".join(offer.name for offer in node.transports if offer.unavailable is None)
        nodes.add_row(
            node.name, node.state, f"{node.heartbeat_age_s:.1f} s ago" if up else "",
            f"{node.rtt_ms:.2f} ms" if up else "", _size(node.memory_bytes), Line(offers),
        )  # fmt: skip
    machines = [Line(f"{node.name}: {node.facts.cpu}, {node.facts.system}") for node in status.nodes if node.facts]
    engines = Table(header_style="bold")
    for column in ("stage", "node", "layers", "phase", "pid", "weights", "memory"):
        engines.add_column(column, no_wrap=True)
    for engine in status.engines:
        last = engine.first_layer + engine.layers - 1
        engines.add_row(
            str(engine.engine.rank), engine.node, f"{engine.first_layer}-{last}", engine.phase, str(engine.pid or ""),
            _size(engine.weight_bytes), _size(engine.memory_bytes),
        )  # fmt: skip
    details = [Line(f"stage {each.engine.rank}: {each.detail}") for each in status.engines if each.detail]
    passed = [Line(line) for line in _unavailable(status)]
    passed += [Line(f"not {name}: {reason}") for name, reason in sorted(status.rejected.items())]
    why = [] if serving else [Line(reason, style="yellow") for reason in status.reasons]
    planned = [Line(line) for line in _expected(status)]
    stages: list[RenderableType] = [engines, *details] if status.engines else []
    return Group(head, *_load(status.counters), nodes, *machines, *stages, *planned, *passed, *why)


def _expected(status: Status) -> list[str]:
    """What the plan promised, and where that is off."""
    if status.plan is None:
        return []
    given = status.plan.prediction
    first = f"the first token behind {status.plan.prompt} after {given.ttft_s:.2f} s"
    line = f"planned ({status.plan.strategy}): {given.tok_s:.1f} tok/s for one text, {first}"
    return [line, *([status.plan.advice] if status.plan.advice else []), *status.deviations]


def _load(counters: Mapping[str, int]) -> list[RenderableType]:
    """Requests, and what they have reserved of each node's memory for KV caches, where the coordinator counts them."""
    lines: list[RenderableType] = []
    if "requests_running" in counters:
        waiting = counters.get("requests_waiting", 0)
        lines.append(Line(f"requests: {counters['requests_running']} running, {waiting} waiting"))
    used = {name.removeprefix(KV_PERCENT): value for name, value in counters.items() if name.startswith(KV_PERCENT)}
    if used:
        lines.append(Line("KV caches: " + ", ".join(f"{node} {percent} %" for node, percent in used.items())))
    return lines


def _unavailable(status: Status) -> list[str]:
    """Each reason once, with its nodes, apart from what the deployment's own verdict says already."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for node in status.nodes:
        for offer in node.transports:
            if offer.unavailable is not None and offer.unavailable not in status.rejected.get(offer.name, ""):
                nodes.setdefault((offer.name, offer.unavailable), []).append(node.name)
    return [f"{name} is unavailable on {', '.join(where)}: {why}" for (name, why), where in nodes.items()]


def _size(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB" if count else ""
