"""How `nova explain` looks: what is in use and why, the candidates, and what every attempt came to."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text as Line

from nova.cli.output import Explanation
from nova.wire.values import AttemptReport, CandidateReport, LinkReport

STYLES = {"chosen": "green", "held": "yellow", "rejected": "red"}


def explanation(found: Explanation) -> RenderableType:
    """Headline, candidates best first, attempts newest first."""
    parts: list[RenderableType] = [Line(headline(found), style="bold")]
    if found.candidates:
        parts.append(_candidates(found.candidates))
    for attempt in reversed(found.attempts):
        parts += [Line(told(attempt)), Padding(_details(attempt), (0, 0, 0, 4), expand=False)]
    return Group(*parts)


def headline(found: Explanation) -> str:
    """What is in use and why, in one line."""
    nodes = ", ".join(found.nodes) or "no node"
    if found.state == "serving" and len(found.nodes) == 1:
        return f"serving on {nodes} alone, where no transport is needed"
    if found.state == "serving":
        why = _passed_over(found.candidates, found.transport)
        return f"serving over {found.transport} between {nodes}: {why or 'the first choice'}"
    if found.state == "forming":
        return f"forming over {found.transport} between {nodes}"
    failed = next((each for each in reversed(found.attempts) if each.outcome == "failed"), None)
    if found.state == "failed" and failed is not None:
        return f"nothing is in use between {nodes}: {failure(failed)}"
    if found.state == "failed" and not any(each.verdict != "rejected" for each in found.candidates):
        return f"nothing is in use between {nodes}: every transport is rejected"
    return f"nothing is in use between {nodes}: {found.why_not or f'the deployment is {found.state}'}"


def told(attempt: AttemptReport) -> str:
    """An attempt in a line."""
    over = attempt.transport + (f" beside {attempt.side}" if attempt.side else "")
    what = "trial" if attempt.trial else "generation"
    text = f"{what} {attempt.generation} over {over}, {attempt.ago_s:.0f} s ago: {attempt.outcome}"
    if attempt.outcome == "failed":
        where = f" in phase {attempt.phase}" if attempt.phase else ""
        return f"{text} after {time(attempt.seconds)}{where}: {attempt.cause}"
    return f"{text}: {attempt.cause}" if attempt.cause else text


def hint(attempts: Sequence[AttemptReport], in_use: str, said: str = "") -> str:
    """Which transports failed and why, in one line, apart from what is in use in the end or `said` already."""
    failed = {each.transport: each for each in attempts if each.outcome == "failed" and each.transport != in_use}
    news = [each for each in failed.values() if each.cause not in said]
    return "; ".join(map(failure, news))


def failure(attempt: AttemptReport) -> str:
    """What failed, where and why."""
    where = f" in phase {attempt.phase}" if attempt.phase else ""
    return f"{attempt.transport} failed{where}: {attempt.cause}"


def time(seconds: float) -> str:
    """With the unit that suits it."""
    if seconds >= 1.0:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def _passed_over(candidates: list[CandidateReport], chosen: str) -> str:
    """Why it is not another one, where that can be told in a line; the table has every reason."""
    names = [each.name for each in candidates]
    better = candidates[: names.index(chosen)] if chosen in names else []
    rejected = [each.name for each in candidates if each.verdict == "rejected"]
    parts = [f"{each.name} is {each.reason or each.verdict}" for each in better]
    if rejected:
        parts.append(f"rejected: {', '.join(rejected)}")
    return "; ".join(parts)


def _candidates(candidates: list[CandidateReport]) -> Table:
    table = Table(header_style="bold")
    for column in ("transport", "verdict", "16 KiB message", "side"):
        table.add_column(column, no_wrap=True, justify="right" if column == "16 KiB message" else "left")
    table.add_column("reason")
    for each in candidates:
        cost = f"{time(each.cost_s)} {'measured' if each.measured else 'estimated'}"
        judged = each.verdict != "rejected"
        table.add_row(
            each.name, Line(each.verdict, STYLES.get(each.verdict, "")), cost if judged else "", each.side,
            Line(each.reason),
        )  # fmt: skip
    return table


def _details(attempt: AttemptReport) -> Group:
    lines = [Line(_link(link)) for link in attempt.links]
    if attempt.phases:
        times = ", ".join(f"{each.phase} {time(each.seconds)}" for each in attempt.phases)
        lines.insert(0, Line(times, style="dim"))
    return Group(*lines)


def _link(link: LinkReport) -> str:
    recent = f", of late {time(link.recent_s)}" if link.recent_s else ""
    return (
        f"{link.source} to {link.target}: {time(link.latency_s)} one way, "
        f"{link.bandwidth_bytes_s / (1 << 20):.0f} MiB/s{recent}"
    )
