"""Where a token's time went, computed from the timings that the driver collected. Pure.

Each stage stamps a chunk with its own clock; `offsets_ns` brings the clocks together. Per decode step:

    return   driver sends the token -> stage 0 has received it
    stage i  compute, with the embedding at the first and head and sampling at the last stage
    hop i    stage i has computed -> stage i+1 has received (send, wire and receive)
    rest     what remains of the step: waiting in a queue, the driver's own work, the error of the clocks

The rows are means over the decode steps, because means add up to the whole and medians do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from nova.wire.values import Share, StageShare
from nova.wire.work import ChunkTiming


def decode_steps(timings: Sequence[ChunkTiming]) -> list[ChunkTiming]:
    """The steps that count: decode only, without the first, whose duration is that of the prompt too."""
    return [timing for timing in timings if not timing.prefill][1:]


def breakdown(timings: Sequence[ChunkTiming], nodes: Sequence[str], offsets_ns: Sequence[int]) -> list[Share]:
    """Rows in the order in which the time passes, `rest` last. Empty when no two tokens were generated.

    `nodes` and `offsets_ns` (that node's clock minus the reference clock) are in pipeline order.
    """
    tokens = [timing for timing in timings if not timing.prefill]
    rows: dict[str, list[float]] = {}
    periods = []
    for before, step in pairwise(tokens):
        period_ms = (step.done_ns - before.done_ns) / 1e6
        parts = _parts(step, nodes, offsets_ns)
        parts["rest"] = period_ms - sum(parts.values())
        periods.append(period_ms)
        for name, ms in parts.items():
            rows.setdefault(name, []).append(ms)
    whole = fmean(periods) if periods else 0.0
    return [Share(name, fmean(ms), fmean(ms) / whole if whole else 0.0) for name, ms in rows.items()]


def stage_shares(
    timings: Sequence[ChunkTiming], nodes: Sequence[str], layers: Sequence[tuple[int, int]]
) -> list[StageShare]:
    """Each stage with its layers and mean compute per decode step, in milliseconds."""
    steps = decode_steps(timings) or [timing for timing in timings if not timing.prefill]
    means = [fmean(step.hops[stage][2] / 1e3 for step in steps) if steps else 0.0 for stage in range(len(nodes))]
    return [
        StageShare(node, first, stop - first, ms) for node, (first, stop), ms in zip(nodes, layers, means, strict=True)
    ]


def _parts(step: ChunkTiming, nodes: Sequence[str], offsets_ns: Sequence[int]) -> dict[str, float]:
    last = len(nodes) - 1
    received = [hop[0] - offset for hop, offset in zip(step.hops, offsets_ns, strict=True)]
    computed = [at + (hop[1] + hop[2]) * 1000 for at, hop in zip(received, step.hops, strict=True)]
    parts: dict[str, float] = {}
    if last:
        # Offsets are known to within half a round trip; a hop cannot take less than no time.
        parts[f"return to {nodes[0]}"] = max(0.0, (received[0] - (step.sent_ns - offsets_ns[last])) / 1e6)
    for stage, node in enumerate(nodes):
        parts[f"stage {stage} ({node})"] = step.hops[stage][2] / 1e3
        if stage < last:
            parts[f"hop {stage} to {stage + 1}"] = max(0.0, (received[stage + 1] - computed[stage]) / 1e6)
    return parts
