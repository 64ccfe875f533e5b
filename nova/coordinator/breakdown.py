"""Where a token's time went, from the timings that the driver collected. Pure.

Each stage stamps a chunk with its own clock; `offsets_ns` brings the clocks together. Per decode step of a request:

    return   driver sends the token -> stage 0 has received it
    stage i  compute, with the embedding at the first and head and sampling at the last stage
    hop i    stage i has computed -> stage i+1 has received (send, wire and receive)
    rest     what remains of the step: waiting in a queue, the driver's own work, the error of the clocks

A step is from one token of the request to its next. Other requests may share its chunks: then a stage's time is that
of the whole chunk, which is what the request waited for; chunks that are not its own, and that it waited behind, are
in the rest. The rows are means over the decode steps, because means add up to the whole and medians do not.
"""

from __future__ import annotations

from collections.abc import Sequence

from nova.coordinator.links import one_way_ns
from nova.wire.values import Share, StageShare
from nova.wire.work import ChunkTiming


class Tally:
    """One request's chunks, added up as they come: a long text takes no more memory than a short one."""

    def __init__(self) -> None:
        self._began_ns: int | None = None
        self._first: ChunkTiming | None = None
        """The first decode step, which counts for the prompt: the steps are those after it."""
        self._done_ns = 0
        self._steps = 0
        self._compute_us: list[int] = []
        self._hops_ms: dict[int, float] = {}

    def add(self, timing: ChunkTiming, offsets_ns: Sequence[int]) -> None:
        """The next chunk with a row of this request. `offsets_ns` are each node's clock minus the reference clock, in
        pipeline order, as many as the chunk has hops."""
        if self._began_ns is None:
            self._began_ns = timing.sent_ns
        if timing.prefill:
            return
        self._done_ns = timing.done_ns
        if self._first is None:
            self._first, self._compute_us = timing, [0] * len(timing.hops)
            return
        self._steps += 1
        for stage, hop in enumerate(timing.hops):
            self._compute_us[stage] += hop[2]
        for rank, taken_ns in one_way_ns(timing, offsets_ns).items():
            # Offsets are known to within half a round trip; a hop cannot take less than no time.
            self._hops_ms[rank] = self._hops_ms.get(rank, 0.0) + max(0.0, taken_ns / 1e6)

    @property
    def prefill_s(self) -> float:
        """From its first chunk to its first token; 0 before that."""
        return (self._first.done_ns - self._began_ns) / 1e9 if self._first and self._began_ns is not None else 0.0

    @property
    def steps(self) -> int:
        """Decode steps after the first token."""
        return self._steps

    @property
    def decode_s(self) -> float:
        """What they took."""
        return (self._done_ns - self._first.done_ns) / 1e9 if self._first else 0.0

    def breakdown(self, nodes: Sequence[str]) -> list[Share]:
        """Rows in the order in which the time passes, `rest` last. Empty when no two tokens were generated."""
        if not self._steps:
            return []
        parts: dict[str, float] = {}
        last = len(nodes) - 1
        if last:
            parts[f"return to {nodes[0]}"] = self._hops_ms.get(last, 0.0)
        for stage, node in enumerate(nodes):
            parts[f"stage {stage} ({node})"] = self._compute_us[stage] / 1e3
            if stage < last:
                parts[f"hop {stage} to {stage + 1}"] = self._hops_ms[stage]
        whole = self.decode_s * 1e3
        parts["rest"] = whole - sum(parts.values())
        return [Share(name, ms / self._steps, ms / whole if whole else 0.0) for name, ms in parts.items()]

    def stages(self, nodes: Sequence[str], layers: Sequence[tuple[int, int]]) -> list[StageShare]:
        """Each stage with its layers and its mean compute per decode step, in milliseconds; of the first one when there
        is no other, 0 before any."""
        if self._steps:
            means = [compute_us / 1e3 / self._steps for compute_us in self._compute_us]
        else:
            means = [hop[2] / 1e3 for hop in self._first.hops] if self._first else [0.0] * len(nodes)
        shares = zip(nodes, layers, means, strict=True)
        return [StageShare(node, first, stop - first, ms) for node, (first, stop), ms in shares]
