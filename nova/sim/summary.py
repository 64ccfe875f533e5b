"""From what happened to figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nova.sim.load import Served
from nova.sim.result import Queue, SimReport, Spread, StageLoad
from nova.sim.run import Simulation


def report(simulation: Simulation) -> SimReport:
    """Of all that happened so far."""
    served = simulation.served
    tokens = sum(len(each.tokens) for each in served)
    begun = served[0].came if served else 0.0
    ended = max((each.tokens[-1] for each in served if each.tokens), default=begun)
    seconds = ended - begun
    nodes = simulation.pipeline.line.nodes
    return SimReport(
        stages=len(nodes),
        requests=len(served),
        left=sum(each.left for each in served),
        tokens=tokens,
        seconds=seconds,
        tok_s=tokens / seconds if seconds else 0.0,
        ttft_s=spread([each.tokens[0] - each.came for each in served if each.tokens]),
        gap_s=spread([b - a for each in served for a, b in pairwise(each.tokens)]),
        queue=queue(served, simulation.now),
        busy=[StageLoad(stage, nodes[stage], share) for stage, share in enumerate(simulation.busy())],
        chunks=simulation.chunks,
        faults=list(simulation.lost),
        down_s=simulation.down_s,
    )


def spread(samples: Sequence[float]) -> Spread:
    ordered, count = sorted(samples), len(samples)
    return Spread(ordered[count // 2], ordered[min(count - 1, count * 99 // 100)], count) if count else Spread(0, 0, 0)


def queue(served: Sequence[Served], now: float) -> Queue:
    """Requests without a token: each from its moment to its first token, or to when its client left."""
    waits = [(each.came, _answered(each, now)) for each in served]
    changes = sorted([(end, -1) for _, end in waits] + [(came, 1) for came, _ in waits])
    waiting = most = 0
    for _, change in changes:
        waiting += change
        most = max(most, waiting)
    whole = now - served[0].came if served else 0.0
    return Queue(sum(end - came for came, end in waits) / whole if whole else 0.0, most)


def _answered(served: Served, now: float) -> float:
    if served.tokens:
        return served.tokens[0]
    return served.came + served.ask.patience if served.left else now


def tok_s_between(served: Sequence[Served], since: float, until: float) -> float:
    """Tokens per second of all requests between two moments: of each the pace between its first and last token
    there."""
    rate = 0.0
    for each in served:
        inside = [at for at in each.tokens if since <= at <= until]
        if len(inside) > 1:
            rate += (len(inside) - 1) / (inside[-1] - inside[0])
    return rate
