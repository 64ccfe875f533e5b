"""What a chunk costs on a stage and between two, and what a stage takes of a node's memory. Pure.

A stage takes T(n) = fixed + layers(n) + head(rows) for n positions; a hop its latency and the bytes of n hidden
states; the way back from the last stage to the first its latency, as only token ids go there. "The slowest" is the
largest stage or hop, which bounds what the pipeline passes on when several chunks are under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from math import inf
from typing import NamedTuple

from nova.errors import PlanError
from nova.plan.inputs import Question
from nova.wire.plans import LinkProfile, NodeProfile

Split = Sequence[tuple[str, int]]
"""A placement: (node, number of layers) in the pipeline's order."""


class Pace(NamedTuple):
    """Of one chunk: the seconds through all stages, hops and back, and those of the largest stage or hop."""

    total_s: float
    slowest_s: float


class CostModel:
    """A question's nodes, links and layers, indexed, and what a stage of them takes.

    Raises PlanError for a workload or a profile that nothing can be planned with.
    """

    def __init__(self, question: Question) -> None:
        _check(question)
        model, self.workload = question.model, question.workload
        self.model = model
        self.nodes = {node.name: node for node in question.nodes}
        self.links = {(link.sender, link.receiver): link for link in question.links}
        reads = [layer.read_bytes for layer in model.layers]
        mean = sum(reads) / len(reads)
        self.shares = [read / mean if mean else 1.0 for read in reads]
        """Seconds of each layer over those of the mean one."""
        context, batch = self.workload.context, self.workload.batch
        self.cache_bytes = [
            batch * (layer.kv_fixed_bytes + layer.kv_token_bytes * min(context, layer.window or context))
            for layer in model.layers
        ]
        """Of the planned requests, in each layer."""

    @cached_property
    def _share_sums(self) -> list[float]:
        return [0.0, *accumulate(self.shares)]

    @cached_property
    def _weight_sums(self) -> list[int]:
        return [0, *accumulate(layer.weight_bytes for layer in self.model.layers)]

    @cached_property
    def _cache_sums(self) -> list[int]:
        return [0, *accumulate(self.cache_bytes)]

    def node(self, name: str) -> NodeProfile:
        """Raises PlanError for a node that the question does not have."""
        if name not in self.nodes:
            raise PlanError(f"no node {name!r} can be planned with; there are: {', '.join(self.nodes) or 'none'}")
        return self.nodes[name]

    def stage_s(self, name: str, first: int, stop: int, positions: int, rows: int) -> float:
        """T of a chunk of so many positions in the layers [first, stop). `rows` of it go through the head, if this
        stage has it: 0 for a piece of a prompt."""
        node = self.node(name)
        layers_s = at(node.layer_s, positions) * (self._share_sums[stop] - self._share_sums[first])
        has_head = rows > 0 and stop == len(self.shares)
        return node.fixed_s + layers_s + (at(node.head_s, rows) if has_head else 0.0)

    def hop_s(self, sender: str, receiver: str, positions: int) -> float:
        """Infinite where there is no link."""
        link = self.links.get((sender, receiver))
        return inf if link is None else hop_seconds(link, positions * self.model.hidden_bytes)

    def back_s(self, last: str, first: str) -> float:
        """The way of token ids; infinite where there is no link, 0 on one node."""
        if last == first:
            return 0.0
        return link.latency_s if (link := self.links.get((last, first))) else inf

    def check_links(self, names: Sequence[str]) -> None:
        """Raise PlanError for an unknown node, and for stages that no link joins, the last and the first included."""
        for name in names:
            self.node(name)
        for sender, receiver in pairwise([*names, names[0]] if len(names) > 1 else []):
            if (sender, receiver) not in self.links:
                raise PlanError(
                    f"no link from {sender} to {receiver}: choose another order, or let a transport join them"
                )

    def weight_bytes(self, first: int, stop: int) -> int:
        """What is loaded for the layers [first, stop): an embedding comes with the first, and the head with the last,
        which reads the embedding where the two are tied."""
        model = self.model
        weights = self._weight_sums[stop] - self._weight_sums[first]
        last = stop == len(model.layers)
        if first == 0 or (last and model.tied):
            weights += model.embedding_bytes
        return weights + (model.head_bytes if last else 0)

    def used_bytes(self, first: int, stop: int) -> int:
        """Weights, caches of the planned requests and working space."""
        caches = self._cache_sums[stop] - self._cache_sums[first]
        return self.weight_bytes(first, stop) + caches + self.workload.working_bytes

    def room(self, name: str) -> int:
        """Bytes that a stage may use there: the memory without its head-room."""
        return int(self.node(name).memory_bytes * (1 - self.workload.head_room))

    def roofline(self, name: str, first: int, stop: int) -> float:
        """The share of the memory's bandwidth that T(1) comes to, 0 where nobody knows it."""
        seconds, bandwidth = self.stage_s(name, first, stop, 1, 1), self.node(name).bandwidth
        read = sum(layer.read_bytes for layer in self.model.layers[first:stop])
        if stop == len(self.shares):
            read += self.model.embedding_bytes if self.model.tied else self.model.head_bytes
        return read / bandwidth / seconds if bandwidth and seconds else 0.0

    def pace(self, split: Split, positions: int, rows: int) -> Pace:
        """Of a chunk of so many positions, of which `rows` go through the head."""
        stages = [self.stage_s(name, *span, positions, rows) for name, span in spans(split)]
        hops = [self.hop_s(a, b, positions) for (a, _), (b, _) in pairwise(split)]
        return Pace(sum(stages) + sum(hops) + self.back_s(split[-1][0], split[0][0]), max(*stages, *hops, 0.0))


def at(points: Sequence[tuple[int, float]], positions: float) -> float:
    """Seconds at so many positions: between two points along their line, beyond the last one along the last two (not
    falling), below the first one its seconds. 0 where there is no point."""
    if not points:
        return 0.0
    if positions <= points[0][0] or len(points) == 1:
        return points[0][1]
    high = next((index for index, point in enumerate(points) if point[0] >= positions), len(points) - 1)
    (x0, y0), (x1, y1) = points[high - 1], points[high]
    slope = (y1 - y0) / (x1 - x0)
    return y1 + (positions - x1) * (max(slope, 0.0) if positions > x1 else slope)


def hop_seconds(link: LinkProfile, size: int) -> float:
    """The latency alone where nobody knows the bandwidth."""
    return link.latency_s + (size / link.bandwidth_bytes_s if link.bandwidth_bytes_s else 0.0)


def _check(question: Question) -> None:
    workload = question.workload
    if not question.model.layers:
        raise PlanError(f"{question.model.name} has no layers to place")
    if not 0 <= workload.acceptance < 1:
        raise PlanError(f"acceptance is a probability below 1, not {workload.acceptance:g}")
    if not 0 <= workload.head_room < 1:
        raise PlanError(f"head_room is a share of the memory below 1, not {workload.head_room:g}")
    if min(workload.batch, workload.context, workload.prompt) < 1:
        raise PlanError("batch, context and prompt are at least 1 each")
    for node in question.nodes:
        if not node.layer_s:
            raise PlanError(f"{node.name}: its profile has no time for a layer; measure it anew")


def spans(split: Split) -> list[tuple[str, tuple[int, int]]]:
    """(node, (first layer, the one behind the last)) of each stage."""
    stops = list(accumulate(count for _, count in split))
    return [(name, (stop - count, stop)) for (name, count), stop in zip(split, stops, strict=True)]
